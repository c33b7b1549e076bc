"""One JSON-RPC message a line: from bytes to messages and back, whatever the bytes are."""

import json
import logging
from collections.abc import AsyncGenerator
from typing import Any, cast

from mcp_types import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    PARSE_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCResponse,
    RequestId,
    jsonrpc_message_adapter,
)

LOG = logging.getLogger(__name__)

MAX_LINE_BYTES = 16 * 1024 * 1024


async def split_lines(
    chunks: AsyncGenerator[bytes], longest: int = MAX_LINE_BYTES
) -> AsyncGenerator[bytes]:
    """The lines that are not blank, without their ends. Of one longer than `longest`, the start."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = b"".join((*pieces, end))
            pieces, size = [], 0
            if line.strip():
                yield line
        size += len(rest)
        if size <= longest:
            pieces.append(rest)
    line = b"".join(pieces)
    if line.strip():
        yield line


def parsed(line: bytes) -> JSONRPCMessage | None:
    """The message of a line, `None` if it is not one.

    Bytes that are no UTF-8 and escapes that are no character are replaced: whoever sent them waits
    for an answer. So does who sent a request with an id that cannot be one, which the SDK would
    take for a notification.
    """
    message = _message(line)
    return None if isinstance(message, JSONRPCNotification) and _has_id(line) else message


def _has_id(line: bytes) -> bool:
    document = _document(line) if b'"id"' in line else None
    return isinstance(document, dict) and "id" in document


def _message(line: bytes) -> JSONRPCMessage | None:
    text = line.decode("utf-8", "replace")
    try:
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValueError:
        pass
    document = _document(line)
    if not isinstance(document, dict):
        return None
    try:
        repaired = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
        return jsonrpc_message_adapter.validate_json(repaired, by_name=False)
    except (ValueError, RecursionError):
        return None


def refusal(line: bytes) -> JSONRPCError:
    """The answer to a line that is no message, with the id of the request if it can be told."""
    document = _document(line)
    if document is None:
        return _error(None, PARSE_ERROR, "This line is not JSON")
    request_id: RequestId | None = None
    if isinstance(document, dict):
        fields = cast("dict[str, Any]", document)
        given = fields.get("id")
        if "method" in fields and isinstance(given, str | int) and not isinstance(given, bool):
            request_id = given
    return _error(request_id, INVALID_REQUEST, "This line is not a JSON-RPC 2.0 message")


def encoded(message: JSONRPCMessage) -> bytes:
    """The line for a message."""
    try:
        text = message.model_dump_json(by_alias=True, exclude_unset=True)
    except ValueError:  # half of a surrogate pair, which JSON in UTF-8 cannot carry
        LOG.exception("A message could not be written")
        request_id = message.id if isinstance(message, JSONRPCResponse | JSONRPCError) else None
        failed = _error(request_id, INTERNAL_ERROR, "The answer could not be written")
        text = failed.model_dump_json(by_alias=True, exclude_unset=True)
    return f"{text}\n".encode()


def _document(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _error(request_id: RequestId | None, code: int, message: str) -> JSONRPCError:
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=ErrorData(code=code, message=message))
