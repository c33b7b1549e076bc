"""The tree can be used with any package index: no file names one."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Put together from pieces, so that this file does not name them either.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
    )
]
NAMED_INDEX = re.compile("|".join(re.escape(host) for host in HOSTS), re.IGNORECASE)
CHOSEN_INDEX = re.compile(r"--(?:extra-)?index-url|--find-links|file:///\w+/\w*(?:pypi|wheels)")
# Folders that no commit carries; `perstack` is the runtime folder, at the root only.
GENERATED = {
    ".git",
    ".venv",
    ".venv-newest",
    "__pycache__",
    "build",
    "dist",
    "htmlcov",
    "node_modules",
}


def committed_files() -> Iterator[Path]:
    for folder, names, files in os.walk(ROOT):
        here = Path(folder)
        names[:] = [name for name in names if not is_generated(here, name)]
        yield from (here / name for name in files if name != "uv.lock")


def is_generated(folder: Path, name: str) -> bool:
    return (
        name in GENERATED
        or name.endswith(("_cache", ".egg-info"))
        or name == ".hypothesis"
        or (folder == ROOT and name == "perstack")
    )


@pytest.mark.parametrize("pattern", [NAMED_INDEX, CHOSEN_INDEX], ids=["host", "option"])
def test_no_file_names_a_package_index(pattern: re.Pattern[str]) -> None:
    this_file = Path(__file__)
    found = [
        f"{path.relative_to(ROOT).as_posix()}: {match.group()}"
        for path in committed_files()
        if path != this_file
        for match in pattern.finditer(path.read_bytes().decode("utf-8", errors="replace"))
    ]

    assert found == []


def test_constraints_pin_names_to_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)
    ] == []
    assert len(lines) > 0
