"""The HTTP requests that are being answered, so that a server can end them all, and politely."""

from dataclasses import dataclass, field

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ENDING = "The server is shutting down.\n"


class OpenRequests:
    """ASGI middleware that can end the requests it let through.

    Some of them never end by themselves: streams of notifications stay open as long as the client.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._is_ending = False
        self._open: set[anyio.CancelScope] = set()
        self._none_open = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer(send)
        if self._is_ending:
            await answer.end(scope, receive)
            return
        with anyio.CancelScope() as request:
            self._open.add(request)
            try:
                await self._app(scope, receive, answer.send)
            finally:
                self._open.discard(request)
                if self._is_ending and not self._open:
                    self._none_open.set()
        if request.cancelled_caught:
            await answer.end(scope, receive)

    def refuse_more(self) -> None:
        """Let no more requests in."""
        self._is_ending = True
        if not self._open:
            self._none_open.set()

    async def end(self, seconds: float) -> None:
        """End every request that does not end by itself within `seconds`."""
        self.refuse_more()
        with anyio.move_on_after(seconds):
            await self._none_open.wait()
        for request in self._open:
            request.cancel()


@dataclass(slots=True)
class _Answer:
    _send: Send
    _is_begun: bool = field(default=False)
    _is_whole: bool = field(default=False)

    async def send(self, message: Message) -> None:
        await self._send(message)
        self._is_begun = True
        self._is_whole = message["type"] == "http.response.body" and not message.get("more_body")

    async def end(self, scope: Scope, receive: Receive) -> None:
        if not self._is_begun:
            refused = PlainTextResponse(ENDING, status_code=503, headers={"connection": "close"})
            await refused(scope, receive, self.send)
        elif not self._is_whole:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})
