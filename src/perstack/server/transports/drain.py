"""A connection whose calls go on when it breaks.

Who loses a connection has not cancelled anything: that has a message of its own. The SDK cancels
what is still at work when it reads the end of a connection; so here it reads that end only when the
calls have been answered, although nobody hears the answers. The jobs are in the store by then.
"""

from contextvars import Context
from types import TracebackType
from typing import Protocol, Self

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    CONNECTION_CLOSED,
    ErrorData,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

MessageOrError = SessionMessage | Exception

_RECEIVE_CLOSED = (anyio.EndOfStream, anyio.ClosedResourceError)
_SEND_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class MessageReceiveStream(Protocol):
    """What a transport reads from a client, each message with the context of its sender."""

    @property
    def last_context(self) -> Context | None:
        """The context of the newest message."""
        ...

    async def receive(self) -> MessageOrError:
        """The next message.

        Raises:
            anyio.EndOfStream: The connection has ended.
        """
        ...

    async def aclose(self) -> None:
        """Read no more."""
        ...


class MessageSendStream(Protocol):
    """What a transport sends to a client."""

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message.

        Raises:
            anyio.BrokenResourceError: The connection has ended.
        """
        ...

    async def aclose(self) -> None:
        """Send no more."""
        ...


def drain_on_disconnect(
    incoming: MessageReceiveStream, outgoing: MessageSendStream
) -> tuple["DrainingReceiveStream", "DrainingSendStream"]:
    """The two directions of a connection, for a server that shall finish what it was asked."""
    pending = PendingRequests()
    return DrainingReceiveStream(incoming, pending), DrainingSendStream(outgoing, pending)


class PendingRequests:
    """The answers that the two sides of a connection owe each other."""

    def __init__(self) -> None:
        self._tool_calls: set[RequestId] = set()
        self._server_requests: set[RequestId] = set()
        self._changed = anyio.Event()

    def on_received(self, item: MessageOrError) -> None:
        """The client sent something."""
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method == "tools/call":
            self._tool_calls.add(message.id)
        elif isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._server_requests.discard(message.id)
        elif isinstance(message, JSONRPCNotification) and message.params is not None:
            # The one notification that names a request cancels it: it will have no answer.
            cancelled: object = message.params.get("requestId")
            if isinstance(cancelled, str | int):  # a client can write anything there
                self._tool_calls.discard(cancelled)

    def on_sent(self, item: SessionMessage) -> None:
        """The server sent something, whether anybody heard it or not."""
        message = item.message
        if isinstance(message, JSONRPCRequest):
            self._server_requests.add(message.id)
        elif isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._tool_calls.discard(message.id)
        self._changed.set()

    async def next_closed_error(self) -> SessionMessage | None:
        """An answer to a question that will have no other, `None` once all calls are answered."""
        while self._tool_calls:
            if self._server_requests:
                closed = ErrorData(code=CONNECTION_CLOSED, message="Connection closed")
                request_id = self._server_requests.pop()
                return SessionMessage(JSONRPCError(jsonrpc="2.0", id=request_id, error=closed))
            self._changed = anyio.Event()
            await self._changed.wait()
        return None


class DrainingReceiveStream:
    """The messages of a client; they end when the connection has and all calls are answered."""

    def __init__(self, inner: MessageReceiveStream, pending: PendingRequests) -> None:
        self._inner = inner
        self._pending = pending

    @property
    def last_context(self) -> Context | None:
        """The context of the newest message's sender."""
        return self._inner.last_context

    async def receive(self) -> MessageOrError:
        """The next message.

        Raises:
            anyio.EndOfStream: There is none and no call to be answered.
        """
        try:
            item = await self._inner.receive()
        except _RECEIVE_CLOSED:
            closed_error = await self._pending.next_closed_error()
            if closed_error is None:
                raise anyio.EndOfStream from None
            return closed_error
        self._pending.on_received(item)
        return item

    async def aclose(self) -> None:
        """Read no more."""
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MessageOrError:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class DrainingSendStream:
    """What the server says; after the end of the connection nobody hears it."""

    def __init__(self, inner: MessageSendStream, pending: PendingRequests) -> None:
        self._inner = inner
        self._pending = pending

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message.

        Raises:
            anyio.BrokenResourceError: It is a question, and the connection has ended.
        """
        try:
            await self._inner.send(item)
        except _SEND_BROKEN:
            if isinstance(item.message, JSONRPCRequest):
                raise
        self._pending.on_sent(item)

    async def aclose(self) -> None:
        """Send no more."""
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()
