"""One trace from the caller's span to the expert's, also for a call that opens the engine."""

import os
import socket
import sys
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, RequestParamsMeta
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from tests.server.harness import Mode, facts
from tests.server.tenants.test_registry import SCRIPT, TOML

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
NAMES = ["tools/call reviewer", "invoke_agent reviewer", "step", "chat scripted"]
"""From the outermost span to the innermost."""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_the_first_call_of_all_has_the_whole_trace(
    tmp_path: Path, mode: Mode, port: int
) -> None:
    (tmp_path / "perstack.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", "perstack", "serve"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        },
    )
    spans: dict[str, Span] = {}
    results: list[CallToolResult] = []
    traced = RequestParamsMeta(traceparent=f"00-{TRACE_ID}-{CALLER}-01")

    async def collect(receiver: OtelTapHttpProtobufReceiver) -> None:
        async for span in receiver.stream_traces():
            spans[span.name] = span
            if len(spans) == len(NAMES):
                return

    settings = OtelTapHttpProtobufReceiverSettings(http_port=port)
    with anyio.fail_after(30):
        async with (
            OtelTapHttpProtobufReceiver(settings) as receiver,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(collect, receiver)
            async with Client(parameters, mode=mode) as client:
                results.append(await client.call_tool("reviewer", {"query": "q"}, meta=traced))
    assert facts(results[0])["trace_id"] == TRACE_ID
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE_ID}
    parents = [spans[name].parent_span_id.hex() for name in NAMES]
    assert parents == [CALLER, *(spans[name].span_id.hex() for name in NAMES[:-1])]
