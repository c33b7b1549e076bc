"""From the bytes of a file to its TOML tables, with every kind of damage put into words."""

import re
from pathlib import Path
from typing import Any

import tomli

from perstack.definition.positions import Positions
from perstack.definition.problems import InvalidDefinitionError, Problem
from perstack.errors import DefinitionError

MAX_BYTES = 8 * 1024 * 1024

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_REPEATS = ("Cannot overwrite", "Cannot declare", "Duplicate inline", "Cannot redefine")
_WORDS: tuple[tuple[str, str, str | None], ...] = (
    ("Unterminated string", "a string has no closing quotes", None),
    ("Illegal character '\\n'", "a string has no closing quote on its line", 'use """ for several'),
    ("Illegal character", "a character is not allowed here", "write it as an escape, such as \\t"),
    ("Unclosed array", "a list has no closing ] or lacks a comma", None),
    ("Unclosed inline table", "an inline table has no closing } or lacks a comma", None),
    ("Expected ']", "a table header has no closing ]", 'write [experts."name"]'),
    ("Invalid initial character", "a key cannot begin like this", "put the key in quotes"),
    ("Expected '='", "a key has no = after it", "quote keys that contain other characters"),
    ("Invalid value", "this is no TOML value", "put texts in quotes"),
    ("Unescaped", "a backslash in a string starts no escape", "write \\\\ or use '…'"),
    ("Invalid hex value", "a \\u escape lacks its hexadecimal digits", None),
    ("Invalid statement", "this is neither a key nor a table header", None),
    ("Expected newline", "something follows a value on its line", "begin a new line"),
    ("Cannot mutate", "a list or inline table cannot be extended further down", None),
)
_REPEATED_HINT = "keep one of them"


def read_bytes(path: Path) -> bytes:
    """The content of a definition file.

    Raises:
        DefinitionError: It is not there, is a folder, cannot be read or is far too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DefinitionError(
            f'Given config path "{path}" is not found.',
            hint="Create the file or give another path.",
        ) from None
    except IsADirectoryError:
        raise DefinitionError(
            f"{path} is a folder.", hint="Give the path of the perstack.toml in it."
        ) from None
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise DefinitionError(
            f"{path} cannot be read: {reason}.", hint="Check the path and its permissions."
        ) from error
    if len(content) > MAX_BYTES:
        raise DefinitionError(
            f"{path} has more than {MAX_BYTES} bytes.", hint="Is this really a perstack.toml?"
        )
    return content


def decode(content: bytes, path: Path) -> str:
    """The text of a definition file with plain line feeds and without a byte order mark.

    Raises:
        InvalidDefinitionError: The bytes are not UTF-8.
    """
    hint = "save the file as UTF-8"
    if content.startswith(_UTF16_MARKS):
        raise _invalid(path, 1, 1, "the file is UTF-16", hint)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        # Positions count from behind the mark, where the decoder began.
        body = bytes(error.object)[: error.start]
        column = len(body.rpartition(b"\n")[2].decode("utf-8", errors="replace")) + 1
        line = body.count(b"\n") + 1
        raise _invalid(path, line, column, "the file is not UTF-8 text", hint) from None


def parse(source: str, path: Path) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        InvalidDefinitionError: The text is no TOML; the problem names the first place.
    """
    try:
        return tomli.loads(source)
    except tomli.TOMLDecodeError as error:
        raise _syntax_error(error, source, path) from None
    except RecursionError:
        raise _invalid(path, 1, 1, "lists or tables are nested too deeply", None) from None
    except ValueError:
        reason = "the file has a number with far too many digits"
        place = _long_number(source)
        raise _invalid(path, *place, reason, None) from None


def _syntax_error(error: tomli.TOMLDecodeError, source: str, path: Path) -> InvalidDefinitionError:
    if error.msg.startswith(_REPEATS):
        repeated = Positions(source).repeated
        if repeated is not None:
            key, first, second = repeated
            return InvalidDefinitionError(
                path,
                [
                    Problem(
                        path=path,
                        line=second.line,
                        column=second.column,
                        key_path=key,
                        reason=f"stands twice, first in line {first.line}",
                        suggestion=_REPEATED_HINT,
                    )
                ],
            )
    return _invalid(path, error.lineno, error.colno, *_syntax_words(error.msg))


def _syntax_words(message: str) -> tuple[str, str | None]:
    if message.startswith(_REPEATS):
        return "a key or table stands twice", _REPEATED_HINT
    for start, reason, hint in _WORDS:
        if message.startswith(start):
            return reason, hint
    return message[:1].lower() + message[1:], None


def _long_number(source: str) -> tuple[int, int]:
    match = re.search(r"[0-9_]{4000,}", source)
    start = match.start() if match else 0
    line_start = source.rfind("\n", 0, start) + 1
    return source.count("\n", 0, start) + 1, start - line_start + 1


def _invalid(
    path: Path, line: int, column: int, reason: str, suggestion: str | None
) -> InvalidDefinitionError:
    problem = Problem(
        path=path, line=line, column=column, key_path=(), reason=reason, suggestion=suggestion
    )
    return InvalidDefinitionError(path, [problem])
