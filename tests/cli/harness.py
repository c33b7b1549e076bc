"""A terminal that nobody sits at, and a folder with experts that play a script."""

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perstack.cli.main import main
from perstack.cli.terminal import Terminal

DEFINITIONS = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.json"

[experts."a"]
instruction = "Work."
delegates = ["@a/x"]

[experts."a".skills."ask"]
type = "interactiveSkill"

[experts."a".skills."ask".tools."askUser"]
description = "Ask."

[experts."@a/x"]
description = "Helps."
instruction = "Help."
"""
Reply = dict[str, Any]


class Keyboard(io.StringIO):
    """A stdin at which a person sits."""

    def isatty(self) -> bool:
        return True


@dataclass(slots=True)
class Outcome:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of stdout as JSON."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def types(self) -> list[str]:
        """The types of the events on stdout."""
        return [event["type"] for event in self.events]


@dataclass(slots=True)
class Stage:
    """A folder with a definition file and its script, and the command line in front of it."""

    folder: Path
    stdin: io.StringIO = field(default_factory=Keyboard)

    def plays(self, **replies: list[Reply]) -> None:
        """Write the script; `a_x` stands for `@a/x`."""
        experts = {"@a/x" if key == "a_x" else key: value for key, value in replies.items()}
        text = json.dumps({"experts": experts})
        (self.folder / "script.json").write_text(text, encoding="utf-8")

    @property
    def files(self) -> list[str]:
        """The options that name the folder."""
        return ["--config", str(self.folder), "--workspace", str(self.folder)]

    def types(self, *words: str) -> Outcome:
        """Execute a command in this process."""
        terminal = Terminal(stdin=self.stdin, stdout=io.StringIO(), stderr=io.StringIO())
        code = main(words, terminal)
        assert isinstance(terminal.stdout, io.StringIO)
        assert isinstance(terminal.stderr, io.StringIO)
        return Outcome(code, terminal.stdout.getvalue(), terminal.stderr.getvalue())

    def runs(self, *words: str) -> Outcome:
        """`perstack run` in this folder."""
        return self.types("run", *words, *self.files)

    def logs(self, *words: str) -> Outcome:
        """`perstack log` of this folder."""
        return self.types("log", *words, "--workspace", str(self.folder))


def stage(folder: Path) -> Stage:
    """A stage with the standard definitions."""
    (folder / "perstack.toml").write_text(DEFINITIONS, encoding="utf-8")
    return Stage(folder)


def says(text: str) -> Reply:
    """A reply of plain text."""
    return {"text": text}


def calls(*names: str, **args: Any) -> Reply:
    """A reply that calls tools, each with the same arguments."""
    return {"toolCalls": [{"name": name, "args": args} for name in names]}


def done(result: str) -> Reply:
    """A reply that completes the run."""
    return calls("attemptCompletion", result=result)


def process(
    *words: str, cwd: Path, stdin: str = "", environment: Mapping[str, str] | None = None
) -> Outcome:
    """Execute a command in a process of its own."""
    completed = subprocess.run(
        [sys.executable, "-m", "perstack", *words],
        cwd=cwd,
        input=stdin,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=50,
        check=False,
    )
    return Outcome(completed.returncode, completed.stdout, completed.stderr)
