"""The position of each key of a TOML text, which the parser does not provide."""

import re
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass

import tomli

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
# Possessive, so that a string without an end costs linear time.
_SCALAR = re.compile(
    r'''
      """ (?: [^"\\]++ | \\[\s\S] | "(?!"") )*+ "{3,5}
    | \'\'\' [\s\S]*? \'{3,5}
    | " (?: [^"\\\n] | \\. )*+ "
    | \' [^\'\n]* \'
    | [^\s,\[\]{}\#"\'] [^,\]}\n\#]*
    ''',
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a text; lines and columns count from 1, columns in characters."""

    line: int
    column: int


class KeyPositions:
    """The positions of all keys and array elements of a TOML text with plain line feeds.

    Text that is not TOML is read up to the first error; later keys have no position.
    `duplicate` is the first key that is defined twice, with both positions.
    """

    def __init__(self, source: str) -> None:
        self._lines = [0, *(match.end() for match in re.finditer("\n", source))]
        scanner = _Scanner(source)
        with suppress(_ScanError, RecursionError):
            scanner.scan_document()
        self._offsets = scanner.offsets
        self.duplicate = scanner.duplicate and (
            scanner.duplicate[0],
            self._position_at(scanner.duplicate[1]),
            self._position_at(scanner.duplicate[2]),
        )

    def find(self, path: KeyPath) -> Position | None:
        """The position of a key, or of the innermost enclosing table that exists."""
        for length in range(len(path), 0, -1):
            if (offset := self._offsets.get(path[:length])) is not None:
                return self._position_at(offset)
        return None

    def has(self, path: KeyPath) -> bool:
        """Whether this very key stands in the text."""
        return path in self._offsets

    def _position_at(self, offset: int) -> Position:
        line = bisect_right(self._lines, offset)
        return Position(line, offset - self._lines[line - 1] + 1)


class _ScanError(Exception):
    """The text is no TOML from here on."""


class _Scanner:
    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.offsets: dict[KeyPath, int] = {}
        self.duplicate: tuple[KeyPath, int, int] | None = None
        self._defined: dict[KeyPath, int] = {}
        self._array_sizes: dict[KeyPath, int] = {}

    def scan_document(self) -> None:
        header: KeyPath = ()
        self._skip(_BLANK)
        while self.position < len(self.source):
            if self.source.startswith("[", self.position):
                header = self._scan_header()
            else:
                self._scan_pair(header)
            self._skip(_BLANK)

    def _scan_header(self) -> KeyPath:
        is_array = self.source.startswith("[[", self.position)
        self.position += 2 if is_array else 1
        self._skip(_SPACE)
        parts = self._scan_key()
        path: KeyPath = ()
        for depth, (part, offset) in enumerate(parts, start=1):
            path = (*path, part)
            is_last = depth == len(parts)
            self._record_offset(path, offset, is_definition=is_last and not is_array)
            if is_last and is_array:
                self._array_sizes[path] = self._array_sizes.get(path, 0) + 1
            if path in self._array_sizes:
                path = (*path, self._array_sizes[path] - 1)
                self._record_offset(path, offset)
        self._expect("]]" if is_array else "]")
        return path

    def _scan_pair(self, table: KeyPath) -> None:
        parts = self._scan_key()
        path = table
        for depth, (part, offset) in enumerate(parts, start=1):
            path = (*path, part)
            self._record_offset(path, offset, is_definition=depth == len(parts))
        self._expect("=")
        self._skip(_SPACE)
        self._scan_value(path)

    def _scan_key(self) -> list[tuple[str, int]]:
        parts: list[tuple[str, int]] = []
        while True:
            match = _KEY_PART.match(self.source, self.position)
            if match is None:
                raise _ScanError
            parts.append((_unquote_key(match.group()), self.position))
            self.position = match.end()
            self._skip(_SPACE)
            if not self.source.startswith(".", self.position):
                return parts
            self.position += 1
            self._skip(_SPACE)

    def _scan_value(self, path: KeyPath) -> None:
        first_character = self.source[self.position : self.position + 1]
        if first_character == "[":
            self._scan_array(path)
        elif first_character == "{":
            self._scan_inline_table(path)
        elif match := _SCALAR.match(self.source, self.position):
            self.position = match.end()
        else:
            raise _ScanError

    def _scan_array(self, path: KeyPath) -> None:
        self.position += 1
        self._skip(_BLANK)
        index = 0
        while not self.source.startswith("]", self.position):
            element = (*path, index)
            self._record_offset(element, self.position)
            self._scan_value(element)
            index += 1
            self._scan_separator("]")
        self.position += 1

    def _scan_inline_table(self, path: KeyPath) -> None:
        self.position += 1
        self._skip(_BLANK)
        while not self.source.startswith("}", self.position):
            self._scan_pair(path)
            self._scan_separator("}")
        self.position += 1

    def _scan_separator(self, closing: str) -> None:
        self._skip(_BLANK)
        if self.source.startswith(",", self.position):
            self.position += 1
            self._skip(_BLANK)
        elif not self.source.startswith(closing, self.position):
            raise _ScanError

    def _record_offset(self, path: KeyPath, offset: int, *, is_definition: bool = False) -> None:
        """Record a position; that of a definition replaces that of an earlier mention."""
        if not is_definition:
            self.offsets.setdefault(path, offset)
            return
        if path in self._defined and self.duplicate is None:
            self.duplicate = (path, self._defined[path], offset)
        self._defined.setdefault(path, offset)
        self.offsets[path] = self._defined[path]

    def _expect(self, text: str) -> None:
        if not self.source.startswith(text, self.position):
            raise _ScanError
        self.position += len(text)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.source, self.position)
        if match is not None:
            self.position = match.end()


def _unquote_key(text: str) -> str:
    if text[0] not in "\"'":
        return text
    if "\\" not in text:
        return text[1:-1]
    try:
        return str(tomli.loads(f"key = {text}")["key"])
    except tomli.TOMLDecodeError as error:
        raise _ScanError from error
