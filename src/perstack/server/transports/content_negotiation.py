"""Which form of an answer an HTTP client takes: a stream of events, or one JSON body."""

import json
import re

from mcp_types import INTERNAL_ERROR
from starlette.datastructures import Headers
from starlette.types import Message, Send

from perstack.json_lines import encode_message
from perstack.server.transports.jsonrpc_errors import jsonrpc_error

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
_RANGES = re.compile(r'(?:[^,"]|"(?:\\.|[^"\\])*"?)+')
_QUALITY = re.compile(r";\s*q\s*=\s*([0-9.]+)\s*(?:;|$)", re.IGNORECASE)


def media_type_of(header: str) -> str:
    """The media type of a header value, in lower case and without parameters."""
    return header.partition(";")[0].strip().lower()


def quality(accept: str, media_type: str) -> float:
    """How much a client wants a media type, from 0 (not at all) to 1 (RFC 9110, 12.5.1).

    Args:
        accept: The header `Accept`; an empty one accepts everything.
        media_type: A type and a subtype.
    """
    qualities: dict[str, float] = {}
    for each in _RANGES.findall(accept):
        media_range = media_type_of(each)
        # Java's own HTTP client writes * for */*.
        name = "*/*" if media_range == "*" else media_range
        if name:
            qualities[name] = max(qualities.get(name, 0.0), _parse_quality(each))
    main_type = media_type.partition("/")[0]
    for name in (media_type, f"{main_type}/*", "*/*"):
        if name in qualities:
            return qualities[name]
    return 0.0 if qualities else 1.0


def _parse_quality(media_range: str) -> float:
    found = _QUALITY.search(media_range)
    try:
        return 1.0 if found is None else min(1.0, float(found[1]))
    except ValueError:
        return 1.0


class JsonBody:
    """Sends the last message of an event stream as a JSON body; other responses as they are."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._rest = b""
        self._last = b""

    async def send(self, message: Message) -> None:
        """Take a part of the response."""
        if message["type"] == "http.response.start" and _is_event_stream(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        elif message["type"] == "http.response.body":
            self._collect(message.get("body", b""))
            if not message.get("more_body", False):
                await self._finish(self._start)

    def _collect(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._last = line.removeprefix(b"data:").strip()

    async def _finish(self, start: Message) -> None:
        status, body = start["status"], self._last
        # The response comes last, unless the session has ended before it.
        if not body or "method" in json.loads(body):
            message = "The session ended before the request was answered"
            status, body = 500, encode_message(jsonrpc_error(None, INTERNAL_ERROR, message))
        headers = [
            (name, value)
            for name, value in start["headers"]
            if name.lower() not in (b"content-type", b"content-length")
        ]
        headers += [
            (b"content-type", JSON.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await self._send({**start, "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _is_event_stream(start: Message) -> bool:
    return media_type_of(Headers(raw=start["headers"]).get("content-type", "")) == EVENT_STREAM
