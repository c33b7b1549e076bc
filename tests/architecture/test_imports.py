"""Importing does nothing, and the heavy dependencies stay behind their doors."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "perstack"
HEAVY = ("litellm", "opentelemetry.sdk", "opentelemetry.exporter", "grpc", "requests")
# What a user, a client's start of the server or the command line imports before any job exists.
DOORS = ("perstack", "perstack.server", "perstack.cli.main")
TELEMETRY_ONLY = ("opentelemetry.sdk", "opentelemetry.exporter")

# Module names go to a file, because what the import itself prints is part of what is tested.
PROBE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
with open(sys.argv[2], "w", encoding="utf-8") as report:
    json.dump(sorted(sys.modules), report)
"""


def has_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return (path / "__init__.py").is_file() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("door", [name for name in DOORS if has_module(name)])
def test_importing_is_silent_and_loads_nothing_heavy(door: str, tmp_path: Path) -> None:
    report = tmp_path / "modules.json"

    done = subprocess.run(
        [sys.executable, "-c", PROBE, door, str(report)],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        text=True,
        encoding="utf-8",
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    loaded: list[str] = json.loads(report.read_text(encoding="utf-8"))
    assert [name for name in loaded if in_packages(name, HEAVY)] == []
    assert [path.name for path in tmp_path.iterdir()] == [report.name]


def test_only_telemetry_imports_the_telemetry_sdk() -> None:
    strays = [
        f"{path.relative_to(PACKAGE).as_posix()}:{line} imports {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "telemetry"
        for line, name in imports(path)
        if in_packages(name, TELEMETRY_ONLY)
    ]

    assert strays == []


def test_every_child_process_is_started_by_the_launcher() -> None:
    starts = re.compile(
        r"\b(open_process|run_process|create_subprocess_\w+|subprocess_exec|Popen|os\.(exec|spawn|fork)\w*"
        r"|subprocess\.(run|call|check_call|check_output))\("
    )

    places = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if starts.search(path.read_text(encoding="utf-8"))
    }

    # The demo installs its time server, which belongs to no job.
    assert places == {"skills/subprocesses.py", "cli/commands/demo_setup.py"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Every name that a file imports, absolute, with its line; wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def in_packages(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
