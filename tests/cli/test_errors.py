"""What a person is told when something goes wrong."""

import io

import pytest

from perstack.cli.main import main
from perstack.cli.terminal import Terminal
from tests.cli.harness import Stage, says


class Faulty(io.StringIO):
    """A stream with a bug."""

    def write(self, text: str, /) -> int:
        raise RuntimeError("a secret detail")


def said_about_a_bug(here: Stage) -> tuple[int, str]:
    terminal = Terminal(stdin=here.stdin, stdout=Faulty(), stderr=(said := io.StringIO()))
    code = main(("log", "--jobs", "--workspace", str(here.folder)), terminal)
    return code, said.getvalue()


def test_a_bug_is_named_without_a_traceback(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERSTACK_DEBUG", raising=False)
    here.plays(a=[says("hello")])
    here.runs("a", "q")
    code, said = said_about_a_bug(here)
    assert code == 1
    assert said.startswith("perstack: Internal error: RuntimeError.\n")
    assert "secret detail" not in said


def test_whoever_debugs_sees_where_it_was(here: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSTACK_DEBUG", "1")
    here.plays(a=[says("hello")])
    here.runs("a", "q")
    assert "Traceback" in said_about_a_bug(here)[1]


def test_a_store_that_cannot_be_read_is_a_failure_of_the_surroundings(here: Stage) -> None:
    (here.folder / "perstack").mkdir()
    (here.folder / "perstack" / "store.db").write_bytes(b"not a database" * 100)
    out = here.logs()
    assert (out.code, out.stdout) == (1, "")
    assert "store.db" in out.stderr
    assert "Traceback" not in out.stderr


def test_a_definition_that_cannot_be_accepted_is_said_with_its_place(here: Stage) -> None:
    (here.folder / "perstack.toml").write_text("[experts.a]\ninstruction = 5\n", encoding="utf-8")
    out = here.runs("a", "q")
    assert (out.code, out.stdout) == (2, "")
    assert "perstack.toml:2:" in out.stderr


class Interrupted(io.StringIO):
    """A stdin at which Ctrl-C is typed."""

    def read(self, size: int | None = -1, /) -> str:
        raise KeyboardInterrupt


def test_ctrl_c_before_there_is_a_job_leaves_without_a_traceback(here: Stage) -> None:
    here.stdin = Interrupted()
    out = here.runs("a", "-")
    assert (out.code, out.stdout, out.stderr) == (130, "", "perstack: interrupted\n")
