"""Incremental decoder of `application/vnd.amazon.eventstream` bodies: frames with checksums.

A frame is its length, the length of its headers and their checksum, the headers, the payload, and a
checksum of all before it. Numbers are big-endian.
"""

import json
import struct
from zlib import crc32

from perstack.llm.wire.reply import InvalidReplyError

MAX_FRAME_BYTES = 24 * 1024 * 1024

_PRELUDE = struct.Struct(">III")
_CHECKSUM = struct.Struct(">I")
_STRING_KIND, _BYTES_KIND = 7, 6
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""The sizes of the kinds of header values that have one."""


class EventStream:
    """The event of each frame, as an object whose only key is the type of the event.

    Raises:
        InvalidReplyError: A frame is damaged or cut off.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        self._bytes += piece
        payloads: list[bytes] = []
        start = 0
        while (end := self._frame_end(start)) is not None:
            payloads.append(_event(self._bytes[start:end]))
            start = end
        del self._bytes[:start]
        return payloads

    def finish(self) -> list[bytes]:
        if self._bytes:
            raise InvalidReplyError("it ended inside a frame")
        return []

    def _frame_end(self, start: int) -> int | None:
        """Where a frame ends, once all of it is there."""
        if len(self._bytes) - start < _PRELUDE.size:
            return None
        length, header_length, checksum = _PRELUDE.unpack_from(self._bytes, start)
        lengths = self._bytes[start : start + _PRELUDE.size - _CHECKSUM.size]
        least = _PRELUDE.size + header_length + _CHECKSUM.size
        if crc32(lengths) != checksum or not least <= length <= MAX_FRAME_BYTES:
            raise InvalidReplyError("the length of a frame is damaged")
        return start + length if len(self._bytes) - start >= length else None


def _event(frame: bytearray) -> bytes:
    _, header_length, _ = _PRELUDE.unpack_from(frame)
    content = frame[: -_CHECKSUM.size]
    if _CHECKSUM.unpack_from(frame, len(content)) != (crc32(content),):
        raise InvalidReplyError("a frame is damaged")
    payload_start = _PRELUDE.size + header_length
    try:
        headers = _headers(bytes(content[_PRELUDE.size : payload_start]))
    except (IndexError, KeyError, ValueError, struct.error):
        raise InvalidReplyError("the headers of a frame cannot be read") from None
    payload = bytes(content[payload_start:])
    kind = headers.get(":event-type") or headers.get(":exception-type")
    if kind is None:
        kind = "error"
        reasons = (headers.get(":error-code"), headers.get(":error-message"))
        payload = json.dumps({"message": ": ".join(filter(None, reasons))}).encode()
    return b"{%s:%s}" % (json.dumps(kind).encode(), payload or b"{}")


def _headers(data: bytes) -> dict[str, str]:
    """The headers that are text."""
    headers: dict[str, str] = {}
    place = 0
    while place < len(data):
        name_end = place + 1 + data[place]
        name, kind = data[place + 1 : name_end].decode(), data[name_end]
        place = name_end + 1
        if kind in (_STRING_KIND, _BYTES_KIND):
            (size,) = struct.unpack_from(">H", data, place)
            place += 2
        else:
            size = _FIXED_SIZES[kind]
        if kind == _STRING_KIND:
            headers[name] = data[place : place + size].decode()
        place += size
    return headers
