"""The command itself: finds what was asked for, and loads nothing else."""

import subprocess
import sys

import pytest

from perstack import RUNTIME_VERSION, __version__
from perstack.cli.main import COMMANDS
from tests.cli.harness import Stage, process, says

LOADED = """
import sys
from perstack.cli.main import main
code = main(sys.argv[2:])
heavy = [name for name in sys.argv[1].split(",") if name in sys.modules]
print(code, heavy, file=sys.stderr)
"""


def test_the_version_is_told(here: Stage) -> None:
    out = process("--version", cwd=here.folder)
    assert out.code == 0
    assert out.stdout == f"perstack {__version__} (runtime version {RUNTIME_VERSION})\n"


def test_the_runtime_version_is_the_one_that_files_and_readers_of_events_meet(here: Stage) -> None:
    here.plays(a=[says("done")])
    file = here.folder / "perstack.toml"
    needed = f'minRuntimeVersion = "{RUNTIME_VERSION}"'
    file.write_text(file.read_text(encoding="utf-8") + needed, encoding="utf-8")
    first, *_ = here.runs("a", "q").events
    assert (first["type"], first["runtimeVersion"]) == ("initializeRuntime", RUNTIME_VERSION)
    later = needed.replace(RUNTIME_VERSION, "99.0.0")
    file.write_text(file.read_text(encoding="utf-8").replace(needed, later), encoding="utf-8")
    refused = here.runs("a", "q")
    assert (refused.code, refused.stdout) == (2, "")
    assert f"this one is {RUNTIME_VERSION}" in refused.stderr


def test_without_a_command_there_is_help_that_names_them_all(here: Stage) -> None:
    out = here.types()
    assert out.code == 0
    assert all(f"{command} " in out.stdout for command in COMMANDS)


def test_an_unknown_command_is_an_error(here: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.types("walk").code == 2
    assert "invalid choice: 'walk'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("a", "q", "--filter", "completeRun"),
        ("--filter", "completeRun", "a", "q"),
        ("a", "--filter", "completeRun", "q"),
        ("a", "--max-steps", "5", "q", "--filter", "completeRun"),
        ("--filter", "completeRun", "a", "--", "q"),
    ],
)
def test_options_stand_before_between_and_after_the_other_words(
    here: Stage, words: tuple[str, ...]
) -> None:
    here.plays(a=[says("{{query}}")])
    out = here.types("run", *here.files, *words)
    assert (out.code, [event["text"] for event in out.events]) == (0, ["q"])


def test_words_after_two_dashes_are_taken_as_they_stand(here: Stage) -> None:
    here.plays(a=[says("{{query}}")])
    out = here.types("run", *here.files, "--filter", "completeRun", "--", "a", "--config")
    assert [event["text"] for event in out.events] == ["--config"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(
    command: str, here: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert here.types(command, "--help").code == 0
    assert COMMANDS[command] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (("check",), "mcp,litellm,perstack.engine,opentelemetry"),
        (("--version",), "anyio,pydantic,mcp"),
        (("serve", "--help"), "mcp,litellm,perstack.engine"),
        (("log", "--help"), "mcp,litellm,perstack.engine"),
    ],
)
def test_a_command_loads_only_what_it_needs(
    words: tuple[str, ...], unneeded: str, here: Stage
) -> None:
    here.plays(a=[])
    done = subprocess.run(
        [sys.executable, "-c", LOADED, unneeded, *words],
        cwd=here.folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.stderr.splitlines()[-1] == "0 []"
