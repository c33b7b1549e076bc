"""The terminal: colours for people only, and no complaint when nobody reads."""

import io
import os

import pytest

from perstack.cli.terminal import Terminal
from perstack.errors import ConfigError


class Screen(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


class Unread(io.StringIO):
    """A stream whose reader has gone away."""

    attempts = 0

    def write(self, text: str, /) -> int:
        self.attempts += 1
        raise BrokenPipeError


def terminal(stdout: io.StringIO, stderr: io.StringIO | None = None) -> Terminal:
    return Terminal(stdin=io.StringIO(), stdout=stdout, stderr=stderr or io.StringIO())


def test_a_person_sees_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = Screen()
    terminal(screen).write_line("done", "green")
    assert screen.getvalue() == "\033[32mdone\033[0m\n"


def test_a_person_may_refuse_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    terminal(screen).write_line("done", "green")
    assert screen.getvalue() == "done\n"


def test_a_file_gets_no_colours() -> None:
    file = io.StringIO()
    terminal(file).write_line("done", "green")
    assert file.getvalue() == "done\n"


def test_an_error_comes_with_what_to_do_next_on_stderr() -> None:
    out, err = io.StringIO(), io.StringIO()
    terminal(out, err).error(ConfigError("The query is empty.", hint="Say what to do."))
    assert (out.getvalue(), err.getvalue()) == (
        "",
        "perstack: The query is empty.\n  Say what to do.\n",
    )


def test_a_reader_that_has_gone_away_is_noted_once_and_no_error() -> None:
    pipe = Unread()
    shell = terminal(pipe)
    shell.write_line("one")
    shell.write_line("two")
    assert not shell.has_reader
    assert pipe.attempts == 1


def test_a_real_pipe_without_a_reader_is_led_into_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as pipe:
        shell = Terminal(stdin=io.StringIO(), stdout=pipe, stderr=io.StringIO())
        shell.write_line("one")
        assert not shell.has_reader
    assert pipe.closed
