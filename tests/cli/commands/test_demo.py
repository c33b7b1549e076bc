"""`perstack demo`: the newcomer's proof, without a key and without leaving anything behind."""

import io
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest

from perstack.cli.commands.demo import model_arguments
from perstack.cli.commands.demo_setup import (
    READY_MARKER,
    TIME_SERVER,
    cache_folder,
    copy_definitions,
    prepare_time_server,
    shipped_definitions,
)
from perstack.cli.main import main
from perstack.cli.terminal import Terminal
from perstack.errors import ConfigError, SkillError

CLOCK = f"""#!{sys.executable}
from mcp.server.mcpserver import MCPServer

server = MCPServer("time")


@server.tool()
def get_current_time(timezone: str) -> dict[str, str]:
    return {{"timezone": timezone, "datetime": "2026-11-20T10:00:00+00:00"}}


server.run()
"""


class Commands:
    """Stands in for the commands that install: notes them, and does what a success leaves."""

    def __init__(self, folder: Path, failing: str = "", stderr: str = "") -> None:
        self.lines: list[str] = []
        self._folder = folder
        self._failing = failing
        self._stderr = stderr

    def __call__(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        line = " ".join(command)
        self.lines.append(line)
        if self._failing and self._failing in line:
            return subprocess.CompletedProcess(command, 1, "", self._stderr)
        stand_in(self._folder, "")
        return subprocess.CompletedProcess(command, 0, "", "")


def stand_in(folder: Path, program: str) -> None:
    """A folder that looks as if the time server had been installed."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    (binaries / TIME_SERVER).write_text(program, encoding="utf-8")
    (binaries / TIME_SERVER).chmod(0o755)
    if not (binaries / "python").exists():
        (binaries / "python").symlink_to(sys.executable)


def ignored(_text: str) -> None:
    """Nobody listens."""


def demo(cache: Path, temporary: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    temporary.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "perstack", "demo", *options],
        capture_output=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
    )


def test_experts_work_behind_a_server_and_nothing_is_left(tmp_path: Path) -> None:
    folder = cache_folder({"XDG_CACHE_HOME": str(tmp_path)})
    stand_in(folder, CLOCK)
    (folder / READY_MARKER).touch()

    done = demo(tmp_path, tmp_path / "temporary")

    assert (done.returncode, done.stderr) == (0, "")
    assert "the server has the tools release-review, perstack_job" in done.stdout
    assert "delegating to @release-review/errors, @release-review/changes" in done.stdout
    assert "├─● @release-review/errors  ✓ completed" in done.stdout
    assert "  - logs/checkout.log: 7 errors in 24 lines" in done.stdout
    assert "  - worst off: logs/checkout.log" in done.stdout
    assert re.search(r"files +changes.md, errors.md", done.stdout)
    assert re.search(r"steps +11: release-review 4, ", done.stdout)
    assert "perstack demo --keep" in done.stdout
    assert list((tmp_path / "temporary").iterdir()) == []


def test_the_workspace_can_be_kept_and_its_events_read(tmp_path: Path) -> None:
    folder = cache_folder({"XDG_CACHE_HOME": str(tmp_path)})
    stand_in(folder, CLOCK)
    (folder / READY_MARKER).touch()

    done = demo(tmp_path, tmp_path / "temporary", "--keep")

    assert (done.returncode, done.stderr) == (0, "")
    (workspace,) = (tmp_path / "temporary").iterdir()
    told = re.search(r"perstack (log --workspace \S+ --job \S+)", done.stdout)
    assert told is not None
    assert str(workspace.resolve()) in told[1]
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    assert main(told[1].split(), terminal) == 0
    assert isinstance(terminal.stdout, io.StringIO)
    assert "It is 2026-11-20T10:00:00+00:00." in terminal.stdout.getvalue()


@pytest.mark.external
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_time_server_comes_from_the_package_index_once(tmp_path: Path) -> None:
    first = demo(tmp_path, tmp_path / "temporary")
    second = demo(tmp_path, tmp_path / "temporary")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "installing mcp-server-time==" in first.stdout
    assert "installing" not in second.stdout


def test_the_time_server_is_installed_once(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    commands, said = Commands(folder), list[str]()

    first = prepare_time_server(folder, said.append, commands)
    second = prepare_time_server(folder, said.append, commands)

    assert first == second == folder / "bin"
    assert [line.split(" -m ")[1].split()[0] for line in commands.lines] == ["venv", "pip"]
    assert len(said) == 1


def test_it_is_installed_again_when_its_python_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    prepare_time_server(folder, ignored, Commands(folder))
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to(tmp_path / "removed")
    commands = Commands(tmp_path / "elsewhere")

    prepare_time_server(folder, ignored, commands)

    assert len(commands.lines) == 2


def test_an_index_out_of_reach_is_told_with_what_pip_said(tmp_path: Path) -> None:
    stderr = "WARNING: retrying\nERROR: No matching distribution found for mcp-server-time\nx"
    commands = Commands(tmp_path / "demo", failing="pip install", stderr=stderr)

    with pytest.raises(SkillError) as caught:
        prepare_time_server(tmp_path / "demo", ignored, commands)

    assert "No matching distribution found for mcp-server-time" in caught.value.message
    assert "package index" in str(caught.value)
    assert not (tmp_path / "demo" / READY_MARKER).exists()


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        prepare_time_server(tmp_path / "file" / "demo", ignored)


def test_definitions_are_found_in_a_checkout_and_in_an_installed_package(tmp_path: Path) -> None:
    assert (shipped_definitions() / "quickstart" / "perstack.toml").is_file()
    package = tmp_path / "site-packages" / "perstack"
    (package / "definitions" / "quickstart").mkdir(parents=True)
    assert shipped_definitions(package) == package / "definitions"
    with pytest.raises(ConfigError):
        shipped_definitions(tmp_path / "a" / "b" / "perstack")


def test_the_workspace_gets_copies(tmp_path: Path) -> None:
    copy_definitions(shipped_definitions() / "quickstart", tmp_path)

    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert {"perstack.toml", "script.toml", "release-notes.md", "logs/search.log"} <= found


def test_a_model_of_the_user_s_is_passed_on_with_the_keys_beside_him(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").touch()

    options = Namespace(provider="ollama", model="gpt-oss:20b")

    words = ["--provider", "ollama", "--model", "gpt-oss:20b"]
    assert model_arguments(options) == [*words, "--env-path", str(tmp_path / ".env")]
    assert model_arguments(Namespace(provider=None, model=None)) == []


@pytest.mark.parametrize("options", [("--model", "m"), ("--provider", "nobody")])
def test_who_generates_must_be_clear_before_anything_is_installed(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())

    assert main(["demo", *options], terminal) == 2
    assert list(tmp_path.iterdir()) == []
