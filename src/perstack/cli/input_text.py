"""Text that a person hands to a command: decoded as a whole, or refused with the place at fault."""

import codecs
from pathlib import Path
from typing import BinaryIO

from perstack.cli.terminal import Terminal
from perstack.errors import ConfigError

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""More than any query may have, in every encoding."""

# That of UTF-32 begins with that of UTF-16.
_ENCODINGS_BY_MARK = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_CONVERT = "Convert it to UTF-8, or put the file into the workspace and name its path in the query."


def read_stdin(terminal: Terminal) -> str:
    """The whole text of stdin, without the line breaks around it.

    Raises:
        ConfigError: It cannot be read, has more than `MAX_TEXT_BYTES`, or is no text.
    """
    if terminal.stdin.isatty():
        terminal.info("perstack: reading from the terminal; Ctrl-D on a new line ends it", "dim")
    buffer: BinaryIO | None = getattr(terminal.stdin, "buffer", None)
    if buffer is None:
        return terminal.stdin.read().strip("\r\n")
    try:
        content = buffer.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"stdin cannot be read: {error.strerror}.", hint="Give the query as an argument."
        ) from error
    return decode_text(content, "stdin").strip("\r\n")


def read_argument_file(path: Path | str, flag: str) -> str:
    """The text of a file that the argument `flag` names.

    Raises:
        ConfigError: It cannot be read, has more than `MAX_TEXT_BYTES`, or is no text.
    """
    name = f"{flag}: {path}"
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise ConfigError(f"{name} cannot be read: {reason}.") from None
    return decode_text(content, name)


def decode_text(content: bytes, name: str) -> str:
    """UTF-8, or what the byte order mark says; the mark is left out.

    Args:
        content: The bytes.
        name: Where they come from, for messages.

    Raises:
        ConfigError: They are no text, or more than `MAX_TEXT_BYTES`.
    """
    if len(content) > MAX_TEXT_BYTES:
        raise ConfigError(
            f"{name} has more than {MAX_TEXT_BYTES // 1024 // 1024} MiB.",
            hint="Put it into a file of the workspace and name its path in the query.",
        )
    marks = (mark for mark in _ENCODINGS_BY_MARK if content.startswith(mark))
    encoding = _ENCODINGS_BY_MARK.get(next(marks, b""), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        label = encoding.removesuffix("-sig").upper()
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{name} is not {label} text: byte {error.start + 1}, in line {line}, cannot be read.",
            hint=_CONVERT,
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(
            f"{name} is no text: it has a null character in line {line}, as binary files have and"
            " UTF-16 without a byte order mark.",
            hint=_CONVERT,
        )
    return text
