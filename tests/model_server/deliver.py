"""How an answer, or what goes wrong with it, gets onto the connection."""

import json
from collections.abc import Awaitable, Callable
from functools import partial

import anyio

from tests.model_server.connection import Connection, chunk, head
from tests.model_server.dialects.dialect import Dialect
from tests.model_server.fault import (
    Cut,
    Hang,
    Held,
    HttpError,
    Malformed,
    Reset,
    Slow,
    StreamError,
)
from tests.model_server.reply import Reply, Verbatim
from tests.model_server.request import Request
from tests.model_server.script import Action

_JSON = "application/json"


class CloseConnectionError(Exception):
    """The script wants this connection closed."""


class Delivery:
    """Delivers the answer to one request."""

    def __init__(self, connection: Connection, dialect: Dialect, request: Request) -> None:
        self._connection = connection
        self._dialect = dialect
        self._request = request

    async def deliver(self, action: Action) -> None:
        """Write the answer.

        Raises:
            ClientGoneError: The client left before the end.
            CloseConnectionError: The answer ends with a close.
        """
        match action:
            case Reply() | Verbatim():
                await self._reply(action)
            case HttpError():
                await self._http_error(action)
            case Malformed():
                await self._malformed(action)
            case Cut():
                await self._cut(action)
            case StreamError():
                await self._stream_error(action)
            case Slow() | Held():
                await self._late(action)
            case Hang():
                await self._connection.wait(anyio.sleep_forever)
            case Reset():
                self._connection.reset_on_close()
                raise CloseConnectionError

    def _frames(self, reply: Reply | Verbatim) -> list[bytes]:
        """The streamed body event by event, or the unstreamed one as its only part."""
        dialect = self._dialect
        if not self._request.is_stream:
            whole = (
                reply.whole if isinstance(reply, Verbatim) else dialect.whole(self._request, reply)
            )
            return [json.dumps(whole).encode()]
        events = (
            reply.events if isinstance(reply, Verbatim) else dialect.events(self._request, reply)
        )
        frames = [dialect.frame(event) for event in events]
        return [*frames, dialect.last_frame] if dialect.last_frame else frames

    @property
    def _content_type(self) -> str:
        return self._dialect.stream_type if self._request.is_stream else _JSON

    async def _reply(self, reply: Reply | Verbatim) -> None:
        body = b"".join(self._frames(reply))
        await self._connection.send_whole(200, self._content_type, body)

    async def _http_error(self, fault: HttpError) -> None:
        body = fault.body
        if body is None:
            body = self._dialect.error(fault.status, fault.message)
        text = body if isinstance(body, str) else json.dumps(body)
        headers = dict(fault.headers)
        if fault.retry_after is not None:
            headers["retry-after"] = str(fault.retry_after)
        await self._connection.send_whole(fault.status, _JSON, text.encode(), headers)

    async def _malformed(self, fault: Malformed) -> None:
        body = fault.body.encode()
        if self._content_type == "text/event-stream":
            body = b"data: " + body + b"\n\n"
        await self._connection.send_whole(200, self._content_type, body)

    async def _cut(self, fault: Cut) -> None:
        frames = self._frames(fault.reply)
        body = b"".join(frames)
        if fault.after_bytes is not None:
            kept = body[: fault.after_bytes]
        elif self._request.is_stream:
            kept = b"".join(frames[: fault.after_chunks])
        else:
            kept = body[: len(body) // 2]
        await self._send_head()
        if kept:
            await self._connection.send(chunk(kept))
        if fault.is_reset:
            self._connection.reset_on_close()
        raise CloseConnectionError

    async def _stream_error(self, fault: StreamError) -> None:
        if not self._request.is_stream:
            await self._http_error(HttpError(fault.status, fault.message))
            return
        dialect = self._dialect
        event = dialect.frame(dialect.error_event(fault.status, fault.message))
        body = b"".join([*self._frames(fault.reply)[: fault.after_chunks], event])
        await self._connection.send_whole(200, self._content_type, body)

    async def _late(self, action: Slow | Held) -> None:
        frames = self._frames(action.reply)
        pauses: dict[int, Callable[[], Awaitable[object]]]
        if isinstance(action, Held):
            pauses = {min(action.after_chunks, len(frames) - 1): action.gate.wait}
        else:
            between = partial(anyio.sleep, action.between_seconds)
            pauses = dict.fromkeys(range(1, len(frames)), between)
            pauses[0] = partial(anyio.sleep, action.before_seconds)
        if 0 in pauses:
            await self._connection.wait(pauses.pop(0))
        await self._send_head()
        for index, frame in enumerate(frames):
            if index in pauses:
                await self._connection.wait(pauses[index])
            await self._connection.send(chunk(frame))
        await self._connection.send(b"0\r\n\r\n")

    async def _send_head(self) -> None:
        headers = {"transfer-encoding": "chunked"}
        await self._connection.send(head(200, self._content_type, headers))
