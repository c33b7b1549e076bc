"""Ends notification streams when the token that opened them expires."""

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perstack.runtime.ports import Clock

MAX_STREAM_SECONDS = 3600.0
"""A client must authenticate again after this; its token may have been revoked meanwhile."""


class StreamExpiryMiddleware:
    """ASGI middleware that ends notification streams with their token.

    A tool call is not interrupted: its token was valid when it was made.
    """

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        if not isinstance(user, AuthenticatedUser) or not _is_stream(scope):
            await self._app(scope, receive, send)
            return
        is_body_open = False

        async def tracked_send(message: Message) -> None:
            nonlocal is_body_open
            is_body_open = message.get("more_body", True)
            await send(message)

        with anyio.move_on_after(self._seconds_left(user.access_token.expires_at)) as timeout:
            await self._app(scope, receive, tracked_send)
        if timeout.cancelled_caught and is_body_open:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _seconds_left(self, expires_at: int | None) -> float:
        if expires_at is None:
            return MAX_STREAM_SECONDS
        return min(MAX_STREAM_SECONDS, max(0.0, expires_at - self._clock.now_ms() / 1000))


def _is_stream(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    is_subscription = Request(scope).headers.get("mcp-method") == "subscriptions/listen"
    return scope["method"] == "GET" or is_subscription
