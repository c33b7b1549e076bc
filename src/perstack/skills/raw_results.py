"""The results of a server as it wrote them.

The SDK refuses the whole result for one part that is not as the protocol has it, and then nothing
is known of what a call has done. So of a result that is read part by part it is given a stand-in,
in which nothing can be wrong.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, cast

from mcp.client import Transport
from mcp.shared.dispatcher import coerce_request_id
from mcp.shared.message import SessionMessage
from mcp.types import Result
from mcp_types import (
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from perstack.models import table_or_empty

RAW_RESULT = "perstack/rawResult"
CALL, LIST, CANCELLED = "tools/call", "tools/list", "notifications/cancelled"
TOOLS_CHANGED = "notifications/tools/list_changed"

Fields = dict[str, Any]


class RawResults:
    """The raw results of `tools/call` and `tools/list` on one connection.

    Args:
        on_tools_changed: Called in the order of the messages: before the result of the call that
            made the list change, if the server says so first.
    """

    def __init__(self, on_tools_changed: Callable[[], None]) -> None:
        self._on_tools_changed = on_tools_changed
        self._methods: dict[RequestId, str] = {}
        self._raw: dict[int, Fields] = {}

    @asynccontextmanager
    async def streams(self, transport: Transport) -> AsyncGenerator[tuple["_Inbound", "_Outbound"]]:
        """The streams of a transport, which is not entered yet."""
        async with transport as (read_stream, write_stream):
            yield _Inbound(read_stream, self.received), _Outbound(write_stream, self.sent)

    def take(self, result: Result) -> Fields:
        """What the server wrote in place of a result; to be asked for once."""
        return self._raw.pop((result.meta or {})[RAW_RESULT])

    def sent(self, message: JSONRPCMessage) -> None:
        """A message goes to the server."""
        if isinstance(message, JSONRPCRequest) and message.method in {CALL, LIST}:
            self._methods[coerce_request_id(message.id)] = message.method
        elif isinstance(message, JSONRPCNotification) and message.method == CANCELLED:
            # What was cancelled may never be answered, and nobody takes an answer.
            cancelled = cast("RequestId", (message.params or {}).get("requestId"))
            self._methods.pop(coerce_request_id(cancelled), None)

    def received(self, message: JSONRPCMessage) -> JSONRPCMessage:
        """What the SDK is given for a message of the server."""
        if isinstance(message, JSONRPCNotification) and message.method == TOOLS_CHANGED:
            self._on_tools_changed()
        if not isinstance(message, JSONRPCResponse):
            return message
        method = self._methods.pop(coerce_request_id(message.id), None)
        if method is None or (method == CALL and _asks_for_input(message.result)):
            return message
        # Not inside of it: the SDK looks through all of it, and refuses what is nested deep.
        key = id(message.result)
        self._raw[key] = message.result
        return message.model_copy(update={"result": _stand_in(method, message.result, key)})


class _Wrapped:
    """A stream of a transport, opened and closed with it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc_val, exc_tb)


class _Inbound(_Wrapped):
    """What comes from the server."""

    def __init__(self, stream: Any, received: Callable[[JSONRPCMessage], JSONRPCMessage]) -> None:
        super().__init__(stream)
        self._change = received

    @property
    def last_context(self) -> Any:
        """Where the SDK finds the context of the newest message."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        return self._received(await self._stream.receive())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        return self._received(await self._stream.__anext__())

    def _received(self, item: SessionMessage | Exception) -> SessionMessage | Exception:
        if isinstance(item, Exception):
            return item
        message = self._change(item.message)
        return item if message is item.message else replace(item, message=message)


class _Outbound(_Wrapped):
    """What goes to the server."""

    def __init__(self, stream: Any, sent: Callable[[JSONRPCMessage], None]) -> None:
        super().__init__(stream)
        self._note = sent

    async def send(self, item: SessionMessage, /) -> None:
        self._note(item.message)
        await self._stream.send(item)


def _asks_for_input(result: Fields) -> bool:
    return result.get("resultType") == "input_required"


def _stand_in(method: str, result: Fields, key: int) -> Fields:
    frame: Fields = {"resultType": "complete", "_meta": {RAW_RESULT: key}}
    if method == CALL:
        return {**frame, "content": []}
    return {**frame, "tools": _tools_with_headers(result), "ttlMs": 0, "cacheScope": "private"}


def _tools_with_headers(result: Fields) -> list[Fields]:
    """What the SDK must know of the tools: which of their arguments are sent as headers, too."""
    tools = result.get("tools")
    named: list[Fields] = []
    for tool in map(table_or_empty, cast("list[object]", tools) if isinstance(tools, list) else ()):
        properties = table_or_empty(table_or_empty(tool.get("inputSchema")).get("properties"))
        schemas = {name: table_or_empty(each) for name, each in properties.items()}
        if schemas and isinstance(tool.get("name"), str):
            schema = {"type": "object", "properties": schemas}
            named.append({"name": tool["name"], "inputSchema": schema})
    return named
