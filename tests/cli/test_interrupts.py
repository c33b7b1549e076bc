"""Ctrl-C, whatever the process is doing, ends it without a traceback."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FILE = """
[provider]
providerName = "scripted"
setting.script = "script.json"

[experts.a]
instruction = "Work."

[experts.a.skills.slow]
type = "mcpStdioSkill"
command = "sh"
args = ["-c", "trap '' TERM; echo here >&2; sleep 600"]
"""
PRELUDE = """
import os, signal, sys, {module}
def interrupt(*_):
    os.kill(os.getpid(), signal.SIGINT)
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            interrupt()
sys.meta_path.insert(0, Interrupting())
sys.argv[1:] = {words!r}
from perstack.__main__ import main
sys.exit(main())
"""
WORDS = {
    "perstack.cli.main": ["check"],
    "argparse": ["--help"],
    "perstack.cli.commands.check": ["check"],
    "perstack.definition.model": ["check"],
    "pydantic": ["check"],
    "perstack.engine": ["run", "a", "q"],
    "perstack.skills.pool": ["run", "a", "q"],
    "perstack.store.sqlite": ["run", "a", "q"],
    "perstack.server.bootstrap": ["serve"],
    "mcp.server": ["serve"],
    "uvicorn": ["serve", "--http", "0"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "perstack.toml").write_text(FILE, encoding="utf-8")
    (tmp_path / "script.json").write_text(
        '{"experts": {"a": [{"text": "done"}]}}', encoding="utf-8"
    )
    return tmp_path


@pytest.mark.parametrize("module", WORDS)
def test_an_import_is_left_in_the_middle(folder: Path, module: str) -> None:
    program = PRELUDE.format(module="threading", name=module, words=WORDS[module])
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "perstack: interrupted\n")


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "perstack", *words],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )


def interrupted(process: subprocess.Popen[str], is_time: Callable[[], bool]) -> tuple[str, str]:
    with process:
        while not is_time():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(50)
        assert process.stdout is not None
        assert process.stderr is not None
        return process.stdout.read(), process.stderr.read()


def test_a_server_that_does_not_end_is_not_waited_for_and_yet_ended(folder: Path) -> None:
    process = started(folder, "run", "a", "q")
    assert process.stdout is not None
    lines = process.stdout
    _, said = interrupted(process, lambda: '"message":"here"' in lines.readline())
    assert process.returncode == 130
    assert "resume: perstack run --continue-job" in said
    assert "Traceback" not in said
    # The end of the guard's work is the end of every process of the group that holds the pipe.
    shown = started(folder, "log", "--jobs")
    assert "stoppedByCancellation" in shown.communicate(timeout=50)[0]


def test_a_signal_that_the_parent_has_ignored_stays_ignored(folder: Path) -> None:
    program = PRELUDE.format(module="threading", name="pydantic", words=["check"])
    ended = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$0" -c "$1"', sys.executable, program],
        cwd=folder,
        env={**os.environ},
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 0
