"""Responses of skill servers over HTTP, turned into what the SDK's transports understand.

The SDK drops status and text of a refusal, waits for ever for an answer whose id is null, and has
nothing to say about a session that the server has forgotten.
"""

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import anyio
import httpx2
from mcp_types import (
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCRequest,
    JSONRPCResponse,
)

from perstack.json_lines import decode_message, encode_message
from perstack.skills.message_reader import MessageReader
from perstack.skills.responses import (
    CALL_METHOD,
    DISCOVER_METHOD,
    DISCOVER_SECONDS,
    SESSION_LOST,
    Document,
    error_words,
    excerpt,
    find_documents,
    unanswered_discovery,
)

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_REFUSAL_BYTES = 20_000
SESSION_HEADER = "mcp-session-id"
JSON_TYPE = "application/json"
EVENTS_TYPE = "text/event-stream"
# Statuses by which servers that know no session say so; the protocol has 404.
GONE_STATUSES = frozenset({404, 410})
SESSION_WORD = re.compile(r"session", re.IGNORECASE)
MARKUP = re.compile(r"<(style|script)\b.*?</\1\s*>|<[^>]*>", re.IGNORECASE | re.DOTALL)

Report = Callable[[str], None]


class MessageTransport(httpx2.AsyncBaseTransport):
    """Streamable HTTP: whatever answers a JSON-RPC request becomes a JSON-RPC response.

    Args:
        inner: Sends requests to the server.
        report: Is told what the server wrote and is no message.
        report_refusal: Is told status and text of a request that was refused.
    """

    def __init__(
        self, inner: httpx2.AsyncBaseTransport, report: Report, report_refusal: Report
    ) -> None:
        self._inner = inner
        self._report = report
        self._report_refusal = report_refusal

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "DELETE":
            return await self._end_session(request)
        message = _sent_message(request)
        if not isinstance(message, JSONRPCRequest):
            return await self._inner.handle_async_request(request)
        if message.method != DISCOVER_METHOD:
            return await self._exchange(request, message)
        with anyio.move_on_after(DISCOVER_SECONDS):
            return await self._exchange(request, message)
        return _json_response({}, [unanswered_discovery(message)])

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _end_session(self, request: httpx2.Request) -> httpx2.Response:
        # Nobody can do anything about a server that does not know the session, or is gone.
        with contextlib.suppress(httpx2.TransportError):
            await (await self._inner.handle_async_request(request)).aclose()
        return httpx2.Response(HTTPStatus.NO_CONTENT)

    async def _exchange(self, request: httpx2.Request, message: JSONRPCRequest) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        headers = _kept_headers(response)
        if response.is_error:
            error = await _read_refusal(response, request, message)
            self._report_refusal(error.error.message)
            return _json_response(headers, [error])
        if not response.is_success or response.status_code == HTTPStatus.ACCEPTED:
            return response
        reader = MessageReader(self._report)
        reader.requests.sent(message)
        if _media_type(response) == EVENTS_TYPE:
            return _repaired_events(response, request, reader)
        body = await _read_body(response, MAX_BODY_BYTES)
        messages = reader.read_line(body) + reader.finish()
        if not any(_is_answer(each) for each in messages):
            messages.append(_error(message, INTERNAL_ERROR, _no_answer_words(response, body)))
        return _json_response(headers, messages)


class SseMessageTransport(httpx2.AsyncBaseTransport):
    """The older transport: answers come as events, and so does the refusal of a message.

    Args:
        inner: Sends requests to the server.
        report: Is told what the server wrote and is no message.
        report_refusal: Is told status and text of a message that was refused.
        deliver: Passes on a message, as if the server had sent it.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        report: Report,
        report_refusal: Report,
        deliver: Callable[[JSONRPCMessage], Awaitable[None]],
    ) -> None:
        self._inner = inner
        self._report_refusal = report_refusal
        self._deliver = deliver
        self._reader = MessageReader(report)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        message = _sent_message(request)
        if message is not None:
            self._reader.requests.sent(message)
        response = await self._inner.handle_async_request(request)
        if message is None and response.is_success and _media_type(response) == EVENTS_TYPE:
            return _repaired_events(response, request, self._reader)
        if response.is_error and isinstance(message, JSONRPCRequest):
            error = await _read_refusal(response, request, message)
            self._report_refusal(error.error.message)
            for each in self._reader.requests.failed(error):
                await self._deliver(each)
            return httpx2.Response(HTTPStatus.ACCEPTED)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def _sent_message(request: httpx2.Request) -> JSONRPCMessage | None:
    return decode_message(request.content) if request.method == "POST" else None


async def _read_refusal(
    response: httpx2.Response, request: httpx2.Request, message: JSONRPCRequest
) -> JSONRPCError:
    """The error for a request that was answered with an error status: the status and the text."""
    body = await _read_body(response, MAX_REFUSAL_BYTES)
    document = _json_rpc_error(body)
    status = response.status_code
    code, words, data = METHOD_NOT_FOUND, _status_words(response, body), None
    if document is not None:
        code, words, data = error_words(document["error"])
        words = f"{words.rstrip('.')} (HTTP status {status})"
    elif status != HTTPStatus.NOT_FOUND:
        code = INTERNAL_ERROR
    if response.is_server_error and message.method == CALL_METHOD:
        words = f"{words}. Whether it took effect is unknown"
    if _is_session_refusal(response, request, message, document, words):
        code = SESSION_LOST
    return _error(message, code, words, data)


def _repaired_events(
    response: httpx2.Response, request: httpx2.Request, reader: MessageReader
) -> httpx2.Response:
    """A stream of events whose messages are read by a reader."""
    response.request = request
    return httpx2.Response(
        response.status_code,
        headers=_kept_headers(response) | {"content-type": EVENTS_TYPE},
        stream=_EventStream(response, reader),
        extensions=response.extensions,
    )


class _EventStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response, reader: MessageReader) -> None:
        self._response = response
        self._reader = reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        events = httpx2.EventSource(self._response, max_event_size=MAX_BODY_BYTES)
        # A stream that is cut off has ended, which the SDK knows how to take.
        with contextlib.suppress(httpx2.TransportError):
            async for event in events:
                for data in self._read(event):
                    yield _encode_event(event, data)

    async def aclose(self) -> None:
        await self._response.aclose()

    def _read(self, event: httpx2.ServerSentEvent) -> list[str]:
        if event.event != "message" or not event.data:
            return [event.data]
        # The end of an event is the end of its message.
        messages = self._reader.read_line(event.data.encode()) + self._reader.finish()
        return [encode_message(message).decode().strip() for message in messages]


def _encode_event(event: httpx2.ServerSentEvent, data: str) -> bytes:
    lines = [f"event: {event.event}"]
    if event.id:
        lines.append(f"id: {event.id}")
    if event.retry is not None:
        lines.append(f"retry: {event.retry}")
    lines += [f"data: {line}" for line in data.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def _json_response(headers: dict[str, str], messages: list[JSONRPCMessage]) -> httpx2.Response:
    """A successful response with these messages, as events if one body cannot hold them."""
    if len(messages) == 1:
        content, media_type = encode_message(messages[0]), JSON_TYPE
    else:
        # The answer last: it ends the stream.
        messages.sort(key=_is_answer)
        content = b"".join(b"data: " + encode_message(each) + b"\n" for each in messages)
        media_type = EVENTS_TYPE
    return httpx2.Response(
        HTTPStatus.OK, headers=headers | {"content-type": media_type}, content=content
    )


def _is_answer(message: JSONRPCMessage) -> bool:
    return isinstance(message, JSONRPCResponse | JSONRPCError)


def _kept_headers(response: httpx2.Response) -> dict[str, str]:
    session = response.headers.get(SESSION_HEADER)
    return {SESSION_HEADER: session} if session else {}


async def _read_body(response: httpx2.Response, limit: int) -> bytes:
    """The beginning of a body, decompressed; what is left of it is not read."""
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit:
                break
    finally:
        await response.aclose()
    return bytes(body[:limit])


def _json_rpc_error(body: bytes) -> Document | None:
    documents, _, _ = find_documents(body.decode("utf-8", "replace"))
    for document in documents:
        error = document.get("error")
        if error is not None and ("jsonrpc" in document or (isinstance(error, dict))):
            return document
    return None


def _is_session_refusal(
    response: httpx2.Response,
    request: httpx2.Request,
    message: JSONRPCRequest,
    document: Document | None,
    words: str,
) -> bool:
    in_session = SESSION_HEADER in request.headers or "session" in str(request.url.query)
    if not in_session or message.method == "initialize":
        return False
    names_session = SESSION_WORD.search(words) is not None
    if document is not None and document.get("id") == message.id and not names_session:
        # It got as far as the message.
        return False
    return response.status_code in GONE_STATUSES or (names_session and response.is_client_error)


def _status_words(response: httpx2.Response, body: bytes) -> str:
    status = f"HTTP status {response.status_code} {response.reason_phrase}".strip()
    text = _body_words(body) or response.headers.get("www-authenticate", "")
    retry_after = response.headers.get("retry-after")
    words = f"{status}: {text}" if text else status
    return f"{words} (Retry-After: {retry_after})" if retry_after else words


def _no_answer_words(response: httpx2.Response, body: bytes) -> str:
    media_type = _media_type(response) or "a body without a type"
    text = _body_words(body)
    return f"HTTP status {response.status_code} with {media_type} and no JSON-RPC answer" + (
        f": {text}" if text else ""
    )


def _body_words(body: bytes) -> str:
    return excerpt(MARKUP.sub(" ", body.decode("utf-8", "replace")))


def _media_type(response: httpx2.Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _error(message: JSONRPCRequest, code: int, words: str, data: object = None) -> JSONRPCError:
    error = ErrorData(code=code, message=words, data=data)
    return JSONRPCError(jsonrpc="2.0", id=message.id, error=error)
