"""Streams of news end with the token that opened them; calls do not."""

from collections.abc import MutableMapping
from typing import Any

import anyio
import pytest
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.types import Message, Receive, Scope, Send

from perstack.server.auth.provider import StreamExpiryMiddleware
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
PIECE: Message = {"type": "http.response.body", "body": b"news", "more_body": True}
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Endless:
    """An endpoint that begins its answer and never ends it, unless it has `seconds`."""

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(PIECE)
        await (anyio.sleep_forever() if self.seconds is None else anyio.sleep(self.seconds))
        await send(END)


async def answered(
    app: Endless, method: str, *, seconds_left: float | None, **headers: str
) -> list[MutableMapping[str, Any]]:
    clock, sent = ManualClock(), list[MutableMapping[str, Any]]()
    expires = None if seconds_left is None else clock.now / 1000 + seconds_left
    token = AccessToken(token="", client_id="a", scopes=[])
    # The product's expiry is in whole seconds; a test has less time.
    object.__setattr__(token, "expires_at", expires)
    scope: Scope = {
        "type": "http",
        "method": method,
        "headers": [
            (key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()
        ],
        "user": AuthenticatedUser(token),
    }

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        sent.append(message)

    await StreamExpiryMiddleware(app, clock)(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("POST", {"mcp_method": "subscriptions/listen"})],
)
@pytest.mark.parametrize("seconds_left", [0.05, -5.0])
async def test_a_stream_is_ended_properly_when_its_token_expires(
    method: str, headers: dict[str, str], seconds_left: float
) -> None:
    with anyio.fail_after(30):
        sent = await answered(Endless(), method, seconds_left=seconds_left, **headers)
    assert sent == [START, PIECE, END]


async def test_a_call_is_answered_to_its_end() -> None:
    sent = await answered(Endless(0.1), "POST", seconds_left=0.01, mcp_method="tools/call")
    assert sent == [START, PIECE, END]


async def test_a_stream_that_ends_by_itself_is_left_alone() -> None:
    assert await answered(Endless(0), "GET", seconds_left=None) == [START, PIECE, END]
