"""Clients of one server that a proof can make misbehave: plain JSON-RPC, no SDK in between."""

import json
import random
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import anyio
import httpx2
from _stage import PERSTACK
from anyio.abc import Process, TaskGroup

Message = dict[str, Any]

LEGACY = "2025-11-25"
MODERN = "2026-07-28"
CLIENT = {"name": "storm", "version": "1"}
ENVELOPE: Message = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": CLIENT,
    "io.modelcontextprotocol/clientCapabilities": {},
}
HANDSHAKE: Message = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}


class NoAnswerError(Exception):
    """The peer or the server hung up before the answer came."""


class Peer(Protocol):
    """One connection of one client."""

    name: str

    async def call(self, tool: str, arguments: Mapping[str, Any], rpc_id: int) -> Message:
        """Call a tool and return the message that answers it.

        Cancellation gives up the request as this kind of client does, telling the server or not.
        """
        ...


def facts(answer: Message) -> Message:
    """The structured content of an answer; empty for an error."""
    found: Message = answer.get("result", {}).get("structuredContent") or {}
    return found


@dataclass
class StdioPeer:
    """A client that started its server.

    Attributes:
        name: Shown in the report.
        process: The server.
        is_modern: Which era it speaks.
        tells: Whether it tells the server what it gives up.
    """

    name: str
    process: Process
    is_modern: bool
    tells: bool = True
    waiting: dict[int, list[anyio.Event]] = field(default_factory=dict[int, list[anyio.Event]])
    answers: dict[int, list[Message]] = field(default_factory=dict[int, list[Message]])
    strays: list[bytes] = field(default_factory=list[bytes])

    async def begin(self) -> None:
        """Shake hands, where the era has that."""
        if not self.is_modern:
            await self.ask("initialize", HANDSHAKE, 0)
            await self.send({"method": "notifications/initialized"})

    async def call(self, tool: str, arguments: Mapping[str, Any], rpc_id: int) -> Message:
        """Call a tool."""
        return await self.ask("tools/call", {"name": tool, "arguments": dict(arguments)}, rpc_id)

    async def ask(self, method: str, params: Message, rpc_id: int) -> Message:
        """Send a request and wait for its answer."""
        meta = {**(ENVELOPE if self.is_modern else {}), "progressToken": f"p{random.random()}"}  # noqa: S311 - only has to differ
        arrived = anyio.Event()
        self.waiting.setdefault(rpc_id, []).append(arrived)
        await self.send({"id": rpc_id, "method": method, "params": {**params, "_meta": meta}})
        try:
            await arrived.wait()
        except anyio.get_cancelled_exc_class():
            if self.tells:
                with anyio.CancelScope(shield=True):
                    await self.send(
                        {"method": "notifications/cancelled", "params": {"requestId": rpc_id}}
                    )
            raise
        return self.answers[rpc_id].pop(0)

    async def send(self, message: Message) -> None:
        """Write one line."""
        stdin = self.process.stdin
        if stdin is not None:
            await stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def read(self) -> None:
        """Give each answer to whoever waits for it, until the server closes its end."""
        stdout = self.process.stdout
        if stdout is None:
            return
        rest = b""
        async for chunk in stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message: Message = json.loads(line)
        except ValueError:
            self.strays.append(line)
            return
        rpc_id = message.get("id")
        if isinstance(rpc_id, int) and "method" not in message:
            self.answers.setdefault(rpc_id, []).append(message)
            if self.waiting.get(rpc_id):
                self.waiting[rpc_id].pop(0).set()


@asynccontextmanager
async def stdio_peer(
    name: str, folder: Path, environment: dict[str, str], *, is_modern: bool, tells: bool = True
) -> AsyncGenerator[StdioPeer]:
    """A client with a server of its own; at the end the client closes stdin and waits."""
    process = await anyio.open_process(
        [*PERSTACK, "serve", "--config", str(folder / "perstack.toml")],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
    )
    peer = StdioPeer(name, process, is_modern, tells)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.read)
        tasks.start_soon(_drain, process)
        await peer.begin()
        yield peer
        if process.stdin is not None:
            await process.stdin.aclose()
        with anyio.move_on_after(10):
            await process.wait()
        tasks.cancel_scope.cancel()
    if process.returncode is None:
        process.kill()


async def _drain(process: Process) -> None:
    if process.stderr is not None:
        async for _ in process.stderr:
            continue


@dataclass
class HttpPeer:
    """A client over Streamable HTTP.

    Attributes:
        name: Shown in the report.
        url: Of the endpoint.
        client: Its connections.
        is_modern: Which era it speaks.
        session: Id of the session of the handshake era.
    """

    name: str
    url: str
    client: httpx2.AsyncClient
    is_modern: bool
    session: str | None = None

    async def begin(self) -> None:
        """Shake hands, where the era has that."""
        if self.is_modern:
            return
        async with self._post({"id": 0, "method": "initialize", "params": HANDSHAKE}) as response:
            self.session = response.headers["mcp-session-id"]
            await response.aread()
        async with self._post({"method": "notifications/initialized"}) as response:
            await response.aread()

    async def call(self, tool: str, arguments: Mapping[str, Any], rpc_id: int) -> Message:
        """Call a tool; giving up closes the stream."""
        params: Message = {"name": tool, "arguments": dict(arguments)}
        if self.is_modern:
            params["_meta"] = ENVELOPE
        asked: Message = {"id": rpc_id, "method": "tools/call", "params": params}
        async with self._post(asked, tool) as response:
            if "text/event-stream" not in response.headers.get("content-type", ""):
                answer: Message = json.loads(await response.aread())
                return answer
            async for line in response.aiter_lines():
                if line.startswith("data:") and (data := line[5:].strip()):
                    message: Message = json.loads(data)
                    if message.get("id") == rpc_id and "method" not in message:
                        return message
        raise NoAnswerError(self.name)

    @asynccontextmanager
    async def _post(
        self, message: Message, tool: str | None = None
    ) -> AsyncGenerator[httpx2.Response]:
        headers = {"accept": "application/json, text/event-stream"}
        if self.is_modern:
            headers |= {"mcp-protocol-version": MODERN, "mcp-method": message["method"]}
            if tool is not None:
                headers["mcp-name"] = tool
        elif self.session is not None:
            headers |= {"mcp-protocol-version": LEGACY, "mcp-session-id": self.session}
        body = {"jsonrpc": "2.0", **message}
        async with self.client.stream("POST", self.url, json=body, headers=headers) as response:
            yield response


@asynccontextmanager
async def http_peer(name: str, url: str, *, is_modern: bool) -> AsyncGenerator[HttpPeer]:
    """A client of a server that runs."""
    limits = httpx2.Limits(max_connections=200)
    async with httpx2.AsyncClient(timeout=120, limits=limits, trust_env=False) as client:
        peer = HttpPeer(name, url, client, is_modern)
        await peer.begin()
        yield peer


async def give_up_after(tasks: TaskGroup, scope: anyio.CancelScope, seconds: float) -> None:
    """Cancel a scope after a while."""

    async def wait() -> None:
        await anyio.sleep(seconds)
        scope.cancel()

    tasks.start_soon(wait)
