"""How a server ends: signals, and HTTP requests in flight."""

import signal
import threading

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHUTTING_DOWN_MESSAGE = "The server is shutting down.\n"


async def wait_for_signal() -> None:
    """Return on SIGTERM or SIGINT, which have no other effect meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        await anyio.sleep_forever()  # only the main thread receives signals
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


class InFlightRequests:
    """ASGI middleware that can end requests in flight.

    Streams of notifications never end by themselves.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._is_shutting_down = False
        self._in_flight: set[anyio.CancelScope] = set()
        self._idle = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_started = is_complete = False

        async def tracked_send(message: Message) -> None:
            nonlocal is_started, is_complete
            await send(message)
            is_started = True
            is_complete = message["type"] == "http.response.body" and not message.get("more_body")

        if not self._is_shutting_down:
            with anyio.CancelScope() as request_scope:
                self._in_flight.add(request_scope)
                try:
                    await self._app(scope, receive, tracked_send)
                finally:
                    self._in_flight.discard(request_scope)
                    if self._is_shutting_down and not self._in_flight:
                        self._idle.set()
            if not request_scope.cancelled_caught:
                return
        if not is_started:
            headers = {"connection": "close"}
            unavailable = PlainTextResponse(SHUTTING_DOWN_MESSAGE, 503, headers)
            await unavailable(scope, receive, send)
        elif not is_complete:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def stop_accepting(self) -> None:
        self._is_shutting_down = True
        if not self._in_flight:
            self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Wait `seconds` for requests in flight, then cancel the rest."""
        self.stop_accepting()
        with anyio.move_on_after(seconds):
            await self._idle.wait()
        for request_scope in self._in_flight:
            request_scope.cancel()
