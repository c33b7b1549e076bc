"""Let calls in flight finish after a disconnect. A lost connection is not a cancellation.

The SDK cancels whatever is in flight when it reads the end of a connection. So it gets to read that
end only when the calls have been answered, although no client receives the answers.
"""

from collections.abc import Callable
from contextvars import Context
from typing import Protocol

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

MessageOrError = SessionMessage | Exception


class MessageReceiveStream(Protocol):
    """The incoming stream of an SDK transport, which keeps the context of each sender."""

    @property
    def last_context(self) -> Context | None: ...
    async def receive(self) -> MessageOrError: ...
    async def aclose(self) -> None: ...


class MessageSendStream(Protocol):
    """The outgoing stream of an SDK transport."""

    async def send(self, item: SessionMessage, /) -> None: ...
    async def aclose(self) -> None: ...


def drain_on_disconnect(
    incoming: MessageReceiveStream, outgoing: MessageSendStream
) -> tuple["DrainingReceiveStream", "DrainingSendStream"]:
    """Both directions of a connection, for a server that finishes calls after a disconnect."""
    receive_stream = DrainingReceiveStream(incoming)
    return receive_stream, DrainingSendStream(outgoing, receive_stream.on_sent)


class DrainingReceiveStream(ObjectReceiveStream[MessageOrError]):
    """Messages of a client; ends when the connection has ended and no call is pending."""

    def __init__(self, inner: MessageReceiveStream) -> None:
        self._inner = inner
        self._tool_calls: set[RequestId] = set()
        self._server_requests: set[RequestId] = set()
        self._changed = anyio.Event()

    @property
    def last_context(self) -> Context | None:
        """The context of the sender of the newest message, which the SDK reads."""
        return self._inner.last_context

    async def receive(self) -> MessageOrError:
        try:
            item = await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            return await self._receive_after_end()
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method == "tools/call":
            self._tool_calls.add(message.id)
        elif isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._server_requests.discard(message.id)
        elif isinstance(message, JSONRPCNotification) and message.params is not None:
            # The only notification with a request id is a cancellation: no answer will follow.
            cancelled: object = message.params.get("requestId")
            if isinstance(cancelled, str | int):  # clients can send anything here
                self._tool_calls.discard(cancelled)
        return item

    async def _receive_after_end(self) -> SessionMessage:
        """An error for a server request that cannot be answered, while a call is pending."""
        while self._tool_calls:
            if self._server_requests:
                closed = ErrorData(code=CONNECTION_CLOSED, message="Connection closed")
                request_id = self._server_requests.pop()
                return SessionMessage(JSONRPCError(jsonrpc="2.0", id=request_id, error=closed))
            self._changed = anyio.Event()
            await self._changed.wait()
        raise anyio.EndOfStream

    def on_sent(self, message: JSONRPCMessage) -> None:
        """A message left the server, whether or not a client received it."""
        if isinstance(message, JSONRPCRequest):
            self._server_requests.add(message.id)
        elif isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._tool_calls.discard(message.id)
        self._changed.set()

    async def aclose(self) -> None:
        await self._inner.aclose()


class DrainingSendStream(ObjectSendStream[SessionMessage]):
    """Messages to a client; after the connection has ended, all but requests are dropped."""

    def __init__(self, inner: MessageSendStream, on_sent: Callable[[JSONRPCMessage], None]) -> None:
        self._inner = inner
        self._on_sent = on_sent

    async def send(self, item: SessionMessage) -> None:
        try:
            await self._inner.send(item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            if isinstance(item.message, JSONRPCRequest):
                raise
        self._on_sent(item.message)

    async def aclose(self) -> None:
        await self._inner.aclose()
