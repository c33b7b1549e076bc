"""Where the command line reads and writes: the only place of the package that prints."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from perstack.errors import PerstackError

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


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
        """Text for stdout, there at once. Nothing happens once it cannot be written any more."""
        if not self.has_reader:
            return
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            self._give_up()
        except OSError as error:
            self.failure = error
            self._give_up()
            self.note(f"perstack: stdout cannot be written: {error.strerror}", "red")

    def line(self, text: str = "", *styles: str) -> None:
        """One line for stdout."""
        self.write(f"{styled(text, styles, self.stdout)}\n")

    def note(self, text: str, *styles: str) -> None:
        """One line for the person who started the command."""
        try:
            self.stderr.write(f"{styled(text, styles, self.stderr)}\n")
            self.stderr.flush()
        except OSError:
            _forget(self.stderr)

    def complain(self, error: PerstackError) -> None:
        """Say what went wrong and what to do next."""
        self.note(f"perstack: {error.message}", "red")
        if error.hint:
            self.note(f"  {error.hint}")

    def _give_up(self) -> None:
        self.has_reader = False
        _forget(self.stdout)


def styled(text: str, styles: tuple[str, ...], stream: TextIO) -> str:
    """The text with colours, if a person looks at the stream and wants them."""
    if not styles or not text or not is_colourful(stream):
        return text
    codes = ";".join(STYLES[style] for style in styles)
    return f"\033[{codes}m{text}\033[0m"


def is_colourful(stream: TextIO) -> bool:
    """Whether colours are seen on the stream, and not refused by `NO_COLOR`."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def standard_terminal() -> Terminal:
    """The streams of this process."""
    return Terminal(
        stdin=_present(sys.stdin, "r"),
        stdout=_encoded(_present(sys.stdout, "w")),
        stderr=_encoded(_present(sys.stderr, "w")),
    )


def _present(stream: TextIO | None, mode: Literal["r", "w"]) -> TextIO:
    """The stream, or one that leads nowhere if the process was started with it closed."""
    return stream or Path(os.devnull).open(mode, encoding="utf-8")


def _encoded(stream: TextIO) -> TextIO:
    """The stream, able to take any text.

    What a program reads is UTF-8, whatever the locale says. What cannot be encoded is escaped: half
    a surrogate pair, as a model may send it, comes out as JSON has it.
    """
    reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        encoding = stream.encoding if stream.isatty() else "utf-8"
        reconfigure(encoding=encoding, errors="backslashreplace")
    return stream


def _forget(stream: TextIO) -> None:
    """Lead a stream that nobody reads into nothing.

    At its end the interpreter flushes it once more, and would complain.
    """
    try:
        number = stream.fileno()
    except OSError:
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
