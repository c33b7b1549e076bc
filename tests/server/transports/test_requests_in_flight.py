"""Requests that a server ends because it ends itself."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perstack.server.transports.shutdown import InFlightRequests

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PIECE: Message = {"type": "http.response.body", "body": b"piece", "more_body": True}
REST: Message = {"type": "http.response.body", "body": b"rest"}


def answering(*messages: Message, then: Callable[[], Awaitable[None]] | None = None) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if then is not None:
            await then()

    return app


async def asked(requests: InFlightRequests) -> list[Message]:
    """What one request is sent; the server ends while it is open."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(requests, {"type": "http", "method": "GET"}, receive, send)
            await anyio.wait_all_tasks_blocked()
            await requests.drain(0)
    return sent


async def test_a_stream_that_is_open_is_brought_to_its_end() -> None:
    sent = await asked(InFlightRequests(answering(START, PIECE, then=anyio.sleep_forever)))

    assert sent == [START, PIECE, {"type": "http.response.body", "body": b"", "more_body": False}]


async def test_a_request_without_an_answer_is_told_that_the_server_ends() -> None:
    sent = await asked(InFlightRequests(answering(then=anyio.sleep_forever)))

    assert [message.get("status") for message in sent] == [503, None]


async def test_an_answer_that_is_whole_gets_nothing_more() -> None:
    sent = await asked(InFlightRequests(answering(START, REST, then=anyio.sleep_forever)))

    assert sent == [START, REST]


async def test_requests_that_end_by_themselves_in_time_are_left_alone() -> None:
    gate = anyio.Event()
    requests = InFlightRequests(answering(START, then=gate.wait))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(requests, {"type": "http"}, receive, send)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(requests.drain, 60)
            await anyio.wait_all_tasks_blocked()
            gate.set()

    assert sent == [START]


async def test_no_request_is_let_in_any_more() -> None:
    reached: list[bool] = []

    async def reach() -> None:
        reached.append(True)

    requests = InFlightRequests(answering(then=reach))
    requests.stop_accepting()
    sent = await asked(requests)

    assert reached == []
    assert sent[0]["status"] == 503
