"""What each wire format provides, and the two ways in which streams are framed."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.model_server.json_values import JsonObject
from tests.model_server.reply import Reply
from tests.model_server.request import Conversation, DialectName, Request


@dataclass(frozen=True)
class Dialect:
    """One wire format, as plain functions.

    Attributes:
        name: Its name in `Request.dialect`.
        path: Found in the paths that it serves.
        read: Path and body to the neutral conversation.
        whole: The body of an unstreamed answer.
        events: The events of a streamed answer, in order, before framing.
        error: The body of an error with that status and message.
        error_event: The event for that error inside a stream.
        frame: One event as bytes of the stream.
        last_frame: What ends the stream after its last event.
        stream_type: Content type of a streamed answer.
    """

    name: DialectName
    path: re.Pattern[str]
    read: Callable[[str, JsonObject], Conversation]
    whole: Callable[[Request, Reply], JsonObject]
    events: Callable[[Request, Reply], list[JsonObject]]
    error: Callable[[int, str], JsonObject]
    error_event: Callable[[int, str], JsonObject]
    frame: Callable[[Mapping[str, Any]], bytes]
    last_frame: bytes = b""
    stream_type: str = "text/event-stream"


def data_frame(event: Mapping[str, Any]) -> bytes:
    """A server-sent event without a name."""
    return f"data: {json.dumps(event)}\n\n".encode()


def named_frame(event: Mapping[str, Any]) -> bytes:
    """A server-sent event named after its `type`."""
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def line_frame(event: Mapping[str, Any]) -> bytes:
    """A line of NDJSON."""
    return json.dumps(event).encode() + b"\n"
