"""JSON-RPC messages as lines of JSON, which is how MCP's stdio transport frames them."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal

from mcp_types import JSONRPCMessage, JSONRPCNotification, jsonrpc_message_adapter

from perstack.text import replace_surrogates

BLANK = b"\xef\xbb\xbf \t\r\n"
"""The bytes of a line that says nothing: white space and byte order marks."""


class LineTooLongError(Exception):
    """A line is longer than its reader accepts."""


async def split_lines(
    chunks: AsyncIterator[bytes],
    max_line_bytes: int,
    *,
    too_long: Literal["cut", "split", "raise"],
    line: bytearray | None = None,
) -> AsyncGenerator[bytes]:
    """The lines of a stream of bytes, without their ends; the last one need not have an end.

    Args:
        chunks: The bytes as they are read.
        max_line_bytes: How long a line may become before its end has been read.
        too_long: Drop the rest of a longer line, yield it in pieces, or raise.
        line: Holds, between two chunks, what has been read of a line that has not ended.

    Raises:
        LineTooLongError: A line is too long, and `too_long` says to raise.
    """
    line = bytearray() if line is None else line
    is_cut = False
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            yield bytes(line if is_cut else line + end)
            line.clear()
            is_cut = False
        if is_cut:
            continue
        line += rest
        if len(line) <= max_line_bytes:
            continue
        if too_long == "raise":
            raise LineTooLongError
        if too_long == "split":
            yield bytes(line)
            line.clear()
        else:
            # Only a beginning is no JSON; without a part of its middle, a message might still be.
            del line[max_line_bytes:]
            is_cut = True
    if line:
        yield bytes(line)


def decode_message(line: bytes) -> JSONRPCMessage | None:
    """The message of a line; `None` if it is invalid.

    Byte order marks are dropped, and invalid UTF-8 and lone surrogates are replaced, because the
    sender waits for an answer. A request with an invalid id is invalid: the SDK would take it for
    a notification.
    """
    message = _validate(line)
    if isinstance(message, JSONRPCNotification) and b'"id"' in line:
        document = parse_json(line)
        if isinstance(document, dict) and "id" in document:
            return None
    return message


def encode_message(message: JSONRPCMessage) -> bytes:
    """The line for a message, with its end.

    Raises:
        ValueError: The message contains a lone surrogate, which UTF-8 cannot encode.
    """
    return f"{message.model_dump_json(by_alias=True, exclude_unset=True)}\n".encode()


def parse_json(line: bytes) -> object:
    """The value of a line, which may have bare control characters; `None` if it is not JSON."""
    try:
        return json.loads(decode_line(line), strict=False)
    except (ValueError, RecursionError):
        return None


def decode_line(line: bytes) -> str:
    """The text of a line. RFC 8259 lets a reader ignore a byte order mark; editors write them."""
    return line.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")


def _validate(line: bytes) -> JSONRPCMessage | None:
    try:
        return jsonrpc_message_adapter.validate_json(decode_line(line), by_name=False)
    except ValueError:
        pass
    document = parse_json(line)
    if not isinstance(document, dict):
        return None
    try:
        repaired = replace_surrogates(json.dumps(document, ensure_ascii=False))
        return jsonrpc_message_adapter.validate_json(repaired, by_name=False)
    except (ValueError, RecursionError):
        return None
