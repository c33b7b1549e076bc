"""HTTP requests as a client writes them, for what no well-behaved client does."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

Message = dict[str, Any]

MODERN = "2026-07-28"
OLDER = "2025-11-25"
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
INTRODUCTION: Message = {
    "protocolVersion": OLDER,
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}
ENVELOPE: Message = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
}


def request(method: str, params: Message, number: int = 1) -> Message:
    """A request as it goes over the wire."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def calling(tool: str, **arguments: Any) -> Message:
    """The parameters of a call that asks for progress."""
    return {"name": tool, "arguments": arguments, "_meta": {"progressToken": "p"}}


def modern_headers(tool: str) -> dict[str, str]:
    """The headers of a call in the era without sessions."""
    return {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": tool}


async def messages(lines: AsyncIterator[str]) -> AsyncGenerator[Message]:
    """The messages of a stream of events."""
    async for line in lines:
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


async def opened_session(http: httpx2.AsyncClient) -> dict[str, str]:
    """The headers of a session of the handshake era."""
    answer = await http.post("/mcp", json=request("initialize", INTRODUCTION), headers=ACCEPT)
    answer.raise_for_status()
    session = {"mcp-session-id": answer.headers["mcp-session-id"], "mcp-protocol-version": OLDER}
    done = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await http.post("/mcp", json=done, headers={**ACCEPT, **session})
    return session


@asynccontextmanager
async def open_call(
    http: httpx2.AsyncClient, headers: dict[str, str], params: Message
) -> AsyncGenerator[AsyncIterator[Message]]:
    """The messages of a call; leaving the context drops its connection."""
    body = request("tools/call", params, 2)
    async with http.stream("POST", "/mcp", json=body, headers={**ACCEPT, **headers}) as response:
        assert response.status_code == 200, await response.aread()
        yield messages(response.aiter_lines())


async def until_at_work(stream: AsyncIterator[Message]) -> None:
    """Read progress until the expert has called a tool."""
    async for message in stream:
        if "exec" in message.get("params", {}).get("message", ""):
            return
    raise AssertionError("the call ended before it was at work")


async def place_to_post(lines: AsyncIterator[str]) -> str:
    """Where a stream of events wants its client's messages posted."""
    async for line in lines:
        if line.startswith("data: /"):
            return line.removeprefix("data: ")
    raise AssertionError("the stream ended before it said where to post")
