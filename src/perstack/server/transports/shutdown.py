"""How a server process ends: signals, HTTP requests in flight, and threads that block the exit."""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress

import anyio
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

THREAD_JOIN_SECONDS = 0.1
SHUTTING_DOWN_MESSAGE = "The server is shutting down.\n"


async def wait_for_signal() -> None:
    """Return on SIGTERM or SIGINT, which have no other effect meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        await anyio.sleep_forever()  # only the main thread receives signals
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


def force_exit_if_blocked(code: int) -> None:
    """Exit now if a non-daemon thread would block the interpreter's exit; else return.

    A worker thread that imports the model library cannot be interrupted, and the interpreter would
    wait seconds for it. Call this when everything is closed and only the exit code is left.
    """
    current = threading.current_thread()
    for thread in threading.enumerate():
        if thread is current or thread.daemon:
            continue
        thread.join(THREAD_JOIN_SECONDS)
        if thread.is_alive():
            logging.shutdown()
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)


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
