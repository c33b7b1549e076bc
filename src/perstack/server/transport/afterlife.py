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

Item = SessionMessage | Exception

_ENDS = (anyio.EndOfStream, anyio.ClosedResourceError)
_BREAKS = (anyio.BrokenResourceError, anyio.ClosedResourceError)


class Incoming(Protocol):
    """What a transport reads from a client, each message with the context of its sender."""

    @property
    def last_context(self) -> Context | None:
        """The context of the newest message."""
        ...

    async def receive(self) -> Item:
        """The next message.

        Raises:
            anyio.EndOfStream: The connection has ended.
        """
        ...

    async def aclose(self) -> None:
        """Read no more."""
        ...


class Outgoing(Protocol):
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


def outliving(incoming: Incoming, outgoing: Outgoing) -> tuple["Hearing", "Speaking"]:
    """The two directions of a connection, for a server that shall finish what it was asked."""
    owed = _Owed()
    return Hearing(incoming, owed), Speaking(outgoing, owed)


class _Owed:
    """The answers that the two sides of a connection owe each other."""

    def __init__(self) -> None:
        self._calls: set[RequestId] = set()
        self._questions: set[RequestId] = set()
        self._changed = anyio.Event()

    def heard(self, item: Item) -> None:
        """The client sent something."""
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCRequest) and message.method == "tools/call":
            self._calls.add(message.id)
        elif isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._questions.discard(message.id)
        elif isinstance(message, JSONRPCNotification) and message.params is not None:
            # The one notification that names a request cancels it: it will have no answer.
            cancelled: object = message.params.get("requestId")
            if isinstance(cancelled, str | int):  # a client can write anything there
                self._calls.discard(cancelled)

    def said(self, item: SessionMessage) -> None:
        """The server sent something, whether anybody heard it or not."""
        message = item.message
        if isinstance(message, JSONRPCRequest):
            self._questions.add(message.id)
        elif isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
            self._calls.discard(message.id)
        self._changed.set()

    async def refusal(self) -> SessionMessage | None:
        """An answer to a question that will have no other, `None` once all calls are answered."""
        while self._calls:
            if self._questions:
                closed = ErrorData(code=CONNECTION_CLOSED, message="Connection closed")
                asked = self._questions.pop()
                return SessionMessage(JSONRPCError(jsonrpc="2.0", id=asked, error=closed))
            self._changed = anyio.Event()
            await self._changed.wait()
        return None


class Hearing:
    """The messages of a client; they end when the connection has and all calls are answered."""

    def __init__(self, inner: Incoming, owed: _Owed) -> None:
        self._inner = inner
        self._owed = owed

    @property
    def last_context(self) -> Context | None:
        """The context of the newest message's sender."""
        return self._inner.last_context

    async def receive(self) -> Item:
        """The next message.

        Raises:
            anyio.EndOfStream: There is none and no call to be answered.
        """
        try:
            item = await self._inner.receive()
        except _ENDS:
            refusal = await self._owed.refusal()
            if refusal is None:
                raise anyio.EndOfStream from None
            return refusal
        self._owed.heard(item)
        return item

    async def aclose(self) -> None:
        """Read no more."""
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
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


class Speaking:
    """What the server says; after the end of the connection nobody hears it."""

    def __init__(self, inner: Outgoing, owed: _Owed) -> None:
        self._inner = inner
        self._owed = owed

    async def send(self, item: SessionMessage, /) -> None:
        """Send a message.

        Raises:
            anyio.BrokenResourceError: It is a question, and the connection has ended.
        """
        try:
            await self._inner.send(item)
        except _BREAKS:
            if isinstance(item.message, JSONRPCRequest):
                raise
        self._owed.said(item)

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
