"""Where the command line reads and writes: the only place of the package that prints."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from perstack.errors import (
    ConfigError,
    DefinitionError,
    JobStateError,
    NotFoundError,
    PerstackError,
    UnknownExpertError,
)

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}

Line = str | tuple[str, str | None]
"""A line, or a line with its style if it has one."""


@dataclass(slots=True)
class Terminal:
    """The three standard streams of a command.

    What others may want to read goes to `stdout`, what is meant for the person who started the
    command to `stderr`. `has_reader` is false once nothing can be written to `stdout` any more;
    `failure` says why, unless its reader simply went away.
    """

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    has_reader: bool = field(default=True, init=False)
    failure: OSError | None = field(default=None, init=False)

    def write(self, text: str) -> None:
        """Write text to stdout and flush it. Does nothing once stdout is closed."""
        if not self.has_reader:
            return
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            self._detach_stdout()
        except OSError as error:
            self.failure = error
            self._detach_stdout()
            self.info(f"perstack: stdout cannot be written: {error.strerror}", "red")

    def write_line(self, text: str = "", style: str | None = None) -> None:
        """One line for stdout."""
        self.write(f"{_styled(text, style, self.stdout)}\n")

    def write_lines(self, lines: Iterable[Line]) -> None:
        for line in lines:
            text, style = (line, None) if isinstance(line, str) else line
            self.write_line(text, style)

    def write_json(self, document: object, *, indent: int | None = 2) -> None:
        self.write_line(json.dumps(document, ensure_ascii=False, indent=indent))

    def info(self, text: str, style: str | None = None) -> None:
        """One line for the person who started the command."""
        try:
            self.stderr.write(f"{_styled(text, style, self.stderr)}\n")
            self.stderr.flush()
        except OSError:
            _redirect_to_devnull(self.stderr)

    def error(self, error: PerstackError) -> None:
        """Write an error with its hint to stderr."""
        self.info(f"perstack: {error.message}", "red")
        if error.hint:
            self.info(f"  {error.hint}")

    def _detach_stdout(self) -> None:
        self.has_reader = False
        _redirect_to_devnull(self.stdout)


def _styled(text: str, style: str | None, stream: TextIO) -> str:
    """The text in colour, if the stream is a terminal that shows it and `NO_COLOR` is not set."""
    is_plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    if not style or not text or is_plain or not stream.isatty():
        return text
    return f"\033[{STYLES[style]}m{text}\033[0m"


def standard_terminal() -> Terminal:
    return Terminal(
        stdin=_or_devnull(sys.stdin, "r"),
        stdout=_with_lossless_encoding(_or_devnull(sys.stdout, "w")),
        stderr=_with_lossless_encoding(_or_devnull(sys.stderr, "w")),
    )


def _or_devnull(stream: TextIO | None, mode: Literal["r", "w"]) -> TextIO:
    """The stream, or the null device if the process was started with it closed."""
    return stream or Path(os.devnull).open(mode, encoding="utf-8")


def _with_lossless_encoding(stream: TextIO) -> TextIO:
    """The stream, able to take any text.

    What a program reads is UTF-8, whatever the locale says. What cannot be encoded is escaped: half
    a surrogate pair, as a model may send it, comes out as JSON has it.
    """
    reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        encoding = stream.encoding if stream.isatty() else "utf-8"
        reconfigure(encoding=encoding, errors="backslashreplace")
    return stream


def _redirect_to_devnull(stream: TextIO) -> None:
    """Redirect a stream without a reader to the null device.

    At its end the interpreter flushes it once more, and would complain.
    """
    try:
        descriptor = stream.fileno()
    except OSError:
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, descriptor)
    os.close(devnull)


EXIT_SUCCESS = 0
EXIT_FAILURE = 1
EXIT_USAGE_ERROR = 2
EXIT_WAITING = 3
EXIT_MAX_STEPS = 4
EXIT_CANCELLED = 130

_USAGE_ERRORS = (ConfigError, DefinitionError, JobStateError, NotFoundError, UnknownExpertError)
_EXIT_CODE_BY_STATUS = {
    "completed": EXIT_SUCCESS,
    "stoppedByInteractiveTool": EXIT_WAITING,
    "stoppedByMaxSteps": EXIT_MAX_STEPS,
    "stoppedByBudget": EXIT_MAX_STEPS,
    "stoppedByCancellation": EXIT_CANCELLED,
}


def exit_code_for_error(error: PerstackError) -> int:
    """The code for an error: whether the user or the surroundings must change something."""
    return EXIT_USAGE_ERROR if isinstance(error, _USAGE_ERRORS) else EXIT_FAILURE


def exit_code_for_status(status: str, error_name: str | None) -> int:
    """The code for a job that stopped with `status`, in an error of this name if in any."""
    if error_name == ConfigError.__name__:
        return EXIT_USAGE_ERROR
    return _EXIT_CODE_BY_STATUS.get(status, EXIT_FAILURE)
