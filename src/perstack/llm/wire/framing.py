"""Incremental decoders of streamed response bodies: Server-Sent Events and JSON Lines.

Both take bytes in pieces of any size and give the same payloads however the bytes are split.
Server-Sent Events follow the WHATWG HTML standard, section 9.2.6: only LF, CR and CRLF end a line
(not the other separators that Unicode has), the `data` lines of one event are joined by LF, and
comments and other fields are skipped.
"""

import re
from typing import Protocol

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DATA_FIELD = b"data"


class Framing(Protocol):
    """Splits the body of one response into payloads."""

    def feed(self, piece: bytes) -> list[bytes]:
        """The payloads that are complete with this piece.

        Raises:
            InvalidReplyError: The body is damaged.
        """
        ...

    def finish(self) -> list[bytes]:
        """The payload that only the end of the body completes, if there is one.

        Raises:
            InvalidReplyError: The body is cut off.
        """
        ...


class _Lines:
    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._is_after_cr = False
        self._is_first = True

    def feed(self, piece: bytes) -> list[bytes]:
        if self._is_after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
            self._is_after_cr = False
        if not piece:
            return []
        self._is_after_cr = piece.endswith(b"\r")
        first, *others = _LINE_END.split(piece)
        if not others:
            self._pieces.append(piece)
            return []
        lines = [b"".join((*self._pieces, first)), *others[:-1]]
        self._pieces = [others[-1]]
        if self._is_first:
            self._is_first = False
            lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
        return lines

    def finish(self) -> bytes:
        """What stands after the last line end."""
        rest = b"".join(self._pieces)
        self._pieces = []
        return rest.removeprefix(_BYTE_ORDER_MARK) if self._is_first else rest


class ServerSentEvents:
    """The data of each event of a `text/event-stream` body."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        payloads: list[bytes] = []
        for line in self._lines.feed(piece):
            if line:
                self._add_line(line)
            elif self._data:
                payloads.append(b"\n".join(self._data))
                self._data = []
        return payloads

    def finish(self) -> list[bytes]:
        # The standard drops an event that no blank line ends. Servers forget that line, and an
        # event that was cut off does not parse.
        rest = self._lines.finish()
        if rest:
            self._add_line(rest)
        data, self._data = self._data, []
        return [b"\n".join(data)] if data else []

    def _add_line(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == _DATA_FIELD:
            self._data.append(value.removeprefix(b" "))


class JsonLines:
    """Each line of an `application/x-ndjson` body that is not blank."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, piece: bytes) -> list[bytes]:
        return [line for line in self._lines.feed(piece) if line.strip()]

    def finish(self) -> list[bytes]:
        rest = self._lines.finish()
        return [rest] if rest.strip() else []
