"""Where the command line reads and writes: the only place of the package that prints."""

import os
import sys
from dataclasses import dataclass, field
from typing import TextIO

from perstack.errors import PerstackError

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


@dataclass(slots=True)
class Terminal:
    """The three standard streams of a command.

    What others may want to read goes to `stdout`, what is meant for the person who started the
    command to `stderr`. `has_reader` is false once whoever read `stdout` has gone away.
    """

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    has_reader: bool = field(default=True, init=False)

    def write(self, text: str) -> None:
        """Text for stdout, there at once. Nothing happens once its reader has gone away."""
        if not self.has_reader:
            return
        try:
            self.stdout.write(text)
            self.stdout.flush()
        except BrokenPipeError:
            self.has_reader = False
            _forget(self.stdout)

    def line(self, text: str = "", *styles: str) -> None:
        """One line for stdout."""
        self.write(f"{styled(text, styles, self.stdout)}\n")

    def note(self, text: str, *styles: str) -> None:
        """One line for the person who started the command."""
        try:
            self.stderr.write(f"{styled(text, styles, self.stderr)}\n")
            self.stderr.flush()
        except BrokenPipeError:
            _forget(self.stderr)

    def complain(self, error: PerstackError) -> None:
        """Say what went wrong and what to do next."""
        self.note(f"perstack: {error.message}", "red")
        if error.hint:
            self.note(f"  {error.hint}")


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
    return Terminal(stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr)


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
