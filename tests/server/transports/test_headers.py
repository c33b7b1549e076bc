"""What comes in the headers of a request and not in its message."""

from collections.abc import Generator
from pathlib import Path

import anyio
import httpx2
import pytest

from tests.server.harness import Mode
from tests.server.transports.clients import PATIENCE_SECONDS
from tests.server.transports.raw import (
    ENVELOPE,
    Message,
    calling,
    modern_headers,
    open_call,
    opened_session,
)
from tests.server.transports.serving import HttpServer, http_server, prepare

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
TRACED = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


@pytest.fixture
def server(tmp_path: Path) -> Generator[HttpServer]:
    """A server that makes spans, which nobody collects."""
    prepare(tmp_path)
    with http_server(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as one:
        yield one


async def test_a_call_belongs_to_the_trace_that_a_header_names(
    server: HttpServer, mode: Mode
) -> None:
    params = calling("echo", query="x")
    with anyio.fail_after(PATIENCE_SECONDS):
        async with httpx2.AsyncClient(base_url=server.origin, timeout=30) as http:
            if mode == "legacy":
                headers = await opened_session(http)
            else:
                headers = modern_headers("echo")
                params["_meta"] |= ENVELOPE
            async with open_call(http, {**headers, **TRACED}, params) as stream:
                last: Message = {}
                async for message in stream:
                    last = message
    assert last["result"]["structuredContent"]["trace_id"] == TRACE_ID
