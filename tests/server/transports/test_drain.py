"""A connection that breaks: what is still owed on it."""

from collections.abc import AsyncGenerator

import anyio
import pytest
from mcp.shared._context_streams import create_context_streams
from mcp.shared.message import SessionMessage
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from perstack.server.transports.drain import (
    DrainingReceiveStream,
    DrainingSendStream,
    MessageOrError,
    drain_on_disconnect,
)

pytestmark = pytest.mark.anyio

CALL = JSONRPCRequest(jsonrpc="2.0", id=1, method="tools/call")
LIST = JSONRPCRequest(jsonrpc="2.0", id=2, method="tools/list")
QUESTION = JSONRPCRequest(jsonrpc="2.0", id="q", method="elicitation/create")
ANSWER = JSONRPCResponse(jsonrpc="2.0", id=1, result={})
REPLY = JSONRPCResponse(jsonrpc="2.0", id="q", result={})
CANCEL = JSONRPCNotification(
    jsonrpc="2.0", method="notifications/cancelled", params={"requestId": 1}
)
PROGRESS = JSONRPCNotification(jsonrpc="2.0", method="notifications/progress", params={})


class Line:
    """Both ends of a connection."""

    def __init__(self) -> None:
        self.client, incoming = create_context_streams[MessageOrError](10)
        outgoing, self.heard = create_context_streams[SessionMessage](10)
        self.hearing: DrainingReceiveStream
        self.speaking: DrainingSendStream
        self.hearing, self.speaking = drain_on_disconnect(incoming, outgoing)

    async def close(self) -> None:
        self.breaks()
        await self.hearing.aclose()
        await self.speaking.aclose()

    async def hears(self, *messages: JSONRPCMessage) -> None:
        for message in messages:
            await self.client.send(SessionMessage(message))
            assert await self.hearing.receive() == SessionMessage(message)

    async def says(self, message: JSONRPCMessage) -> None:
        await self.speaking.send(SessionMessage(message))

    def breaks(self) -> None:
        self.client.close()
        self.heard.close()


@pytest.fixture
async def line() -> AsyncGenerator[Line]:
    one = Line()
    yield one
    await one.close()


async def ended(line: Line) -> bool:
    """Whether the server is told of the end, once everything has settled."""
    ends: list[bool] = []

    async def read() -> None:
        with pytest.raises(anyio.EndOfStream):
            await line.hearing.receive()
        ends.append(True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return bool(ends)


@pytest.mark.parametrize("messages", [(), (LIST,), (CALL, CANCEL)])
async def test_it_ends_at_once_if_no_call_waits_for_an_answer(
    line: Line, messages: tuple[JSONRPCMessage, ...]
) -> None:
    await line.hears(*messages)

    line.breaks()

    assert await ended(line)


async def test_it_ends_when_the_last_call_has_been_answered_to_nobody(line: Line) -> None:
    await line.hears(CALL)
    line.breaks()

    before = await ended(line)
    await line.says(PROGRESS)
    meanwhile = await ended(line)
    await line.says(ANSWER)

    assert (before, meanwhile) == (False, False)
    assert await ended(line)


@pytest.mark.parametrize("named", [[], {}, None, 1.5])
async def test_a_cancellation_that_names_no_request_cancels_none(line: Line, named: object) -> None:
    params = {"requestId": named}
    senseless = JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params=params)
    await line.hears(CALL, senseless)

    line.breaks()

    assert not await ended(line)


async def test_an_answer_that_was_heard_counts_too(line: Line) -> None:
    await line.hears(CALL)
    await line.says(ANSWER)

    line.breaks()

    assert await ended(line)


async def test_a_question_that_nobody_will_answer_is_refused(line: Line) -> None:
    await line.hears(CALL)
    await line.says(QUESTION)
    line.breaks()

    with anyio.fail_after(30):
        refusal = await line.hearing.receive()

    assert isinstance(refusal, SessionMessage)
    assert isinstance(refusal.message, JSONRPCError)
    assert refusal.message.id == "q"
    assert not await ended(line)


async def test_a_question_that_was_answered_is_not(line: Line) -> None:
    await line.hears(CALL)
    await line.says(QUESTION)
    await line.hears(REPLY)

    line.breaks()

    assert not await ended(line)


async def test_a_question_after_the_end_fails(line: Line) -> None:
    await line.hears(CALL)
    line.breaks()

    with pytest.raises(anyio.BrokenResourceError):
        await line.says(QUESTION)
