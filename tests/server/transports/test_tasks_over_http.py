"""Tasks over HTTP, where a header repeats the name of the task."""

from collections.abc import AsyncGenerator

import anyio
import httpx2
import pytest
from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, MISSING_REQUIRED_CLIENT_CAPABILITY

from perstack.server.caller import TASKS_EXTENSION
from tests.server.transports.raw import ACCEPT, ENVELOPE, MODERN, Message, request
from tests.server.transports.serving import HttpServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TAKING: Message = {
    **ENVELOPE,
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS_EXTENSION: {}}},
}


@pytest.fixture
async def http(server: HttpServer) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=server.origin, timeout=30) as client:
        yield client


async def ask(
    http: httpx2.AsyncClient,
    method: str,
    params: Message,
    *,
    name: str | None,
    meta: Message = TAKING,
) -> tuple[int, Message]:
    """The HTTP status and the message that answers a request."""
    headers = {**ACCEPT, "mcp-protocol-version": MODERN, "mcp-method": method}
    if name is not None:
        headers["mcp-name"] = name
    body = request(method, {**params, "_meta": meta})
    with anyio.fail_after(30):
        answer = await http.post("/mcp", json=body, headers=headers)
    return answer.status_code, answer.json()


async def test_a_call_becomes_a_task_that_another_connection_collects(
    http: httpx2.AsyncClient,
) -> None:
    call: Message = {"name": "echo", "arguments": {"query": "over http", "wait_seconds": 0}}
    _, created = await ask(http, "tools/call", call, name="echo")
    task: str = created["result"]["taskId"]
    answer: Message = {}
    with anyio.fail_after(30):
        while answer.get("status", "working") == "working":
            _, got = await ask(http, "tasks/get", {"taskId": task}, name=task)
            answer = got["result"]
    assert answer["status"] == "completed"
    assert "over http" in answer["result"]["structuredContent"]["text"]


@pytest.mark.parametrize(
    ("name", "code"), [("another", HEADER_MISMATCH), ("nosuchtask", INVALID_PARAMS)]
)
async def test_the_header_names_the_same_task_as_the_message(
    http: httpx2.AsyncClient, name: str, code: int
) -> None:
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        status, answer = await ask(http, method, {"taskId": "nosuchtask"}, name=name)
        assert answer["error"]["code"] == code
        assert status in (200, 400)


async def test_who_does_not_declare_the_extension_is_told_so(http: httpx2.AsyncClient) -> None:
    status, answer = await ask(http, "tasks/get", {"taskId": "x"}, name="x", meta=ENVELOPE)
    assert status == 400
    assert answer["error"]["code"] == MISSING_REQUIRED_CLIENT_CAPABILITY
