"""Two users of one server, spoken to as raw as the protocol allows, so that no byte is lost."""

import json
import random
import re
import string
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from anyio.abc import TaskGroup

Message = dict[str, Any]

MODERN, HANDSHAKE = "2026-07-28", "2025-11-25"
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
TASKS = "io.modelcontextprotocol/tasks"
CAPABILITIES: Message = {"elicitation": {"form": {}}, "extensions": {TASKS: {}}}
PASSING = frozenset({"date"})
"""What differs between any two answers."""

LETTERS = string.ascii_lowercase + string.digits
REQUEST_ID = 7


@dataclass(frozen=True)
class Answer:
    """What came back, as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    def without(self, ids: Mapping[str, str]) -> "Answer":
        """The answer with each id replaced by what it stands for."""
        headers = tuple((name, _replaced(value, ids)) for name, value in self.headers)
        return Answer(self.status, headers, _replaced(self.body, ids))

    @property
    def message(self) -> Message:
        """The JSON-RPC answer in it."""
        lines = [self.body, *self.body.splitlines()]
        for line in lines:
            text = line.removeprefix("data: ")
            if text.startswith("{") and ('"result"' in text or '"error"' in text):
                found: Message = json.loads(text)
                return found
        raise RuntimeError(f"no answer in {self.status} {self.body[:300]!r}")

    @property
    def facts(self) -> Message:
        """The structured result of a tool."""
        result: Message = self.message["result"]
        facts: Message = result.get("structuredContent") or {}
        return facts

    @property
    def job_id(self) -> str:
        """The job that a call has begun, be it as a task."""
        result: Message = self.message["result"]
        job_id: str = result.get("taskId") or self.facts["job_id"]
        return job_id


def _replaced(text: str, ids: Mapping[str, str]) -> str:
    for one, name in ids.items():
        text = text.replace(one, name)
    return text


@dataclass
class User:
    """A user with a token, in both eras at once.

    Attributes:
        session: The headers of their session of the handshake era.
    """

    name: str
    http: httpx2.AsyncClient
    session: dict[str, str] = field(default_factory=dict[str, str])

    async def send(self, headers: Mapping[str, str], body: Message, method: str = "POST") -> Answer:
        """One HTTP request, as it stands."""
        answer = await self.http.request(method, "/mcp", json=body, headers={**JSON, **headers})
        return _kept(answer)

    async def modern(self, method: str, params: Message, name: str | None = None) -> Answer:
        """A request of the era without sessions."""
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        if name is not None:
            headers["mcp-name"] = name
        return await self.send(headers, request(method, {**params, "_meta": envelope()}))

    async def legacy(self, method: str, params: Message) -> Answer:
        """A request in their session."""
        return await self.send(self.session, request(method, params))

    async def call(self, tool: str, **arguments: Any) -> Answer:
        """A tool call of the era without sessions."""
        return await self.modern("tools/call", {"name": tool, "arguments": arguments}, tool)

    async def begin_session(self) -> None:
        """Shake hands."""
        introduction = {
            "protocolVersion": HANDSHAKE,
            "capabilities": {},
            "clientInfo": {"name": self.name, "version": "1"},
        }
        begun = await self.http.post("/mcp", json=request("initialize", introduction), headers=JSON)
        self.session = {
            "mcp-session-id": begun.headers["mcp-session-id"],
            "mcp-protocol-version": HANDSHAKE,
        }
        await self.send(self.session, {"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def post(self, path: str, body: Message) -> Answer:
        """One HTTP request to another place."""
        return _kept(await self.http.post(path, json=body, headers=JSON))

    async def older_session(self, tasks: TaskGroup) -> str:
        """Open a session of the older transport, which lasts as long as the tasks."""
        found: list[str] = []
        opened = anyio.Event()

        async def hold() -> None:
            async with self.http.stream("GET", "/sse", timeout=None) as answer:
                async for line in answer.aiter_lines():
                    if line.startswith("data: /"):
                        found.append(line.rpartition("=")[2])
                        opened.set()

        tasks.start_soon(hold)
        await opened.wait()
        return found[0]

    async def first_of_stream(self, params: Message) -> Answer:
        """The beginning of a stream of changes, which is closed then."""
        headers = {
            **JSON,
            "mcp-protocol-version": MODERN,
            "mcp-method": "subscriptions/listen",
        }
        body = request("subscriptions/listen", {**params, "_meta": envelope()})
        async with self.http.stream("POST", "/mcp", json=body, headers=headers) as answer:
            lines: list[str] = []
            async for line in answer.aiter_lines():
                lines.append(line)
                if line.startswith(("data: {", "{")):
                    break
            return Answer(answer.status_code, _headers(answer), "\n".join(lines))

    async def listen(self, params: Message, heard: list[str], started: anyio.Event) -> None:
        """Note every line of a stream of changes, until cancelled."""
        headers = {
            **JSON,
            "mcp-protocol-version": MODERN,
            "mcp-method": "subscriptions/listen",
        }
        body = request("subscriptions/listen", {**params, "_meta": envelope()})
        async with self.http.stream(
            "POST", "/mcp", json=body, headers=headers, timeout=None
        ) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    heard.append(line)
                    started.set()

    async def hear_session(self, heard: list[str]) -> None:
        """Note every message to the session that answers no request, until cancelled."""
        async with self.http.stream(
            "GET", "/mcp", headers={**JSON, **self.session}, timeout=None
        ) as answer:
            async for line in answer.aiter_lines():
                heard += [line] if line.startswith("data: {") else []


def _kept(answer: httpx2.Response) -> Answer:
    return Answer(answer.status_code, _headers(answer), answer.text)


def _headers(answer: httpx2.Response) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value) for name, value in answer.headers.multi_items() if name not in PASSING
    )


def request(method: str, params: Message) -> Message:
    """A request as it goes over the wire."""
    return {"jsonrpc": "2.0", "id": REQUEST_ID, "method": method, "params": params}


def envelope() -> Message:
    """What a client of the era without sessions says of itself."""
    return {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
        "io.modelcontextprotocol/clientInfo": {"name": "tenant", "version": "1"},
    }


def absent_like(text: str, rng: random.Random) -> str:
    """An id of the same shape that was never given out."""
    hexadecimal = re.fullmatch(r"[0-9a-f]+", text) is not None
    made = [
        rng.choice("0123456789abcdef" if hexadecimal else string.digits)
        if one.isdigit()
        else rng.choice(LETTERS[:6] if hexadecimal else LETTERS[:26])
        if one.isalpha()
        else one
        for one in text
    ]
    return "".join(made)


@asynccontextmanager
async def user(origin: str, name: str, token: str) -> AsyncGenerator[User]:
    """A user with their session."""
    headers = {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=origin, headers=headers, timeout=30) as http:
        one = User(name, http)
        await one.begin_session()
        yield one
