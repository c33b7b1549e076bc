"""Batches over stdio: answered in one line, once all of their requests are."""

import json
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, JSONRPCResponse, RequestId

from perstack.server.transports.stdio import Incoming, Outgoing, open_message_streams

pytestmark = pytest.mark.anyio


def ping(request_id: RequestId) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": "ping"}


def cancelling(request_id: RequestId) -> dict[str, Any]:
    params = {"requestId": request_id}
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}


async def no_wait() -> None:
    return


@dataclass
class Wire:
    """A client's ends of the pipes, and the server's streams."""

    to_server: int
    from_server: int
    incoming: Incoming
    outgoing: Outgoing

    def send(self, document: object) -> None:
        os.write(self.to_server, json.dumps(document).encode() + b"\n")

    async def requests(self, count: int) -> list[RequestId]:
        received = [await self.incoming.receive() for _ in range(count)]
        return [
            each.message.id
            for each in received
            if isinstance(each, SessionMessage) and isinstance(each.message, JSONRPCRequest)
        ]

    async def answer(self, request_id: RequestId, **result: Any) -> None:
        response = JSONRPCResponse(jsonrpc="2.0", id=request_id, result=result)
        await self.outgoing.send(SessionMessage(response))

    async def line(self) -> Any:
        with anyio.fail_after(30):
            await anyio.wait_readable(self.from_server)
        return json.loads(os.read(self.from_server, 65_536))


@pytest.fixture
def descriptors() -> Iterator[tuple[int, int, int, int]]:
    incoming, to_server = os.pipe()
    from_server, outgoing = os.pipe()
    yield incoming, outgoing, to_server, from_server
    for descriptor in (incoming, to_server, from_server, outgoing):
        with suppress(OSError):
            os.close(descriptor)


@asynccontextmanager
async def opened(descriptors: tuple[int, int, int, int]) -> AsyncGenerator[Wire]:
    incoming, outgoing, to_server, from_server = descriptors
    with anyio.fail_after(30):
        async with open_message_streams(incoming, outgoing, no_wait) as (received, sent):
            yield Wire(to_server, from_server, received, sent)


async def test_a_batch_is_answered_in_one_line(descriptors: tuple[int, int, int, int]) -> None:
    async with opened(descriptors) as wire:
        wire.send([ping(1), ping("b"), {"id": 3, "method": 5}])
        assert await wire.requests(2) == [1, "b"]
        await wire.answer("b", second=True)
        await wire.answer(9, alone=True)
        assert (await wire.line())["id"] == 9
        await wire.answer(1, first=True)
        answers = {answer["id"]: answer for answer in await wire.line()}
    assert answers[1]["result"] == {"first": True}
    assert answers["b"]["result"] == {"second": True}
    assert answers[3]["error"]["code"] == -32600


async def test_batches_side_by_side_are_kept_apart(descriptors: tuple[int, int, int, int]) -> None:
    async with opened(descriptors) as wire:
        wire.send([ping(1), ping(2)])
        wire.send([ping(3)])
        await wire.requests(3)
        await wire.answer(3)
        assert [answer["id"] for answer in await wire.line()] == [3]
        await wire.answer(2)
        await wire.answer(1)
        assert [answer["id"] for answer in await wire.line()] == [2, 1]


async def test_a_cancelled_request_is_not_waited_for(
    descriptors: tuple[int, int, int, int],
) -> None:
    async with opened(descriptors) as wire:
        wire.send([ping(1), ping(2)])
        await wire.requests(2)
        await wire.answer(1)
        wire.send(cancelling(2))
        received = await wire.incoming.receive()
        assert isinstance(received, SessionMessage)
        assert isinstance(received.message, JSONRPCNotification)
        assert [answer["id"] for answer in await wire.line()] == [1]


async def test_a_batch_of_notifications_is_not_answered(
    descriptors: tuple[int, int, int, int],
) -> None:
    async with opened(descriptors) as wire:
        wire.send([{"jsonrpc": "2.0", "method": "notifications/initialized"}])
        assert await wire.requests(1) == []
        wire.send(ping(1))
        await wire.requests(1)
        await wire.answer(1)
        assert (await wire.line())["id"] == 1


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [("2024-11-05", True), ("2025-03-26", True), ("2025-06-18", False), ("2025-11-25", False)],
)
async def test_the_version_of_the_session_decides_whether_batches_are_taken(
    descriptors: tuple[int, int, int, int], version: str, is_taken: bool
) -> None:
    async with opened(descriptors) as wire:
        await wire.answer(0, protocolVersion=version)
        await wire.line()
        wire.send([ping(1)])
        if is_taken:
            await wire.requests(1)
            await wire.answer(1)
            assert [answer["id"] for answer in await wire.line()] == [1]
        else:
            answer = await wire.line()
            assert (answer["id"], answer["error"]["code"]) == (None, -32600)
            assert version in answer["error"]["message"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"[]", "empty"),
        (b"[1", "not JSON"),
        (b"\xef\xbb\xbf[]", "empty"),
        (json.dumps([ping(1)] * 101).encode(), "more than 100"),
    ],
)
async def test_a_batch_that_is_none_is_refused_as_a_whole(
    descriptors: tuple[int, int, int, int], line: bytes, problem: str
) -> None:
    async with opened(descriptors) as wire:
        os.write(wire.to_server, line + b"\n")
        assert problem in (await wire.line())["error"]["message"]
