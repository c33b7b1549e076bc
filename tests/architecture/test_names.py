"""Names are the field's own words; the private ones of the past do not come back."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "perstack"
# Words that once named something else: a tenant was a guest at a reception, a call was a visit.
BANNED = re.compile(
    "afterlife|complain|complaint|counter|course|desk|doorkeeper|elsewhere|face|journal|laboratory"
    "|look|meant|nobody|offer|office|outlet|oversight|premises|reaper|reception|said|shown|spoken"
    "|stage|standing|story|stretch|surroundings|survey|tale|tape|tell|teller|told|trail|trial"
    "|verdict|visit|visitor|whoever"
)
# Words that say nothing of what a module, class or function is for.
EMPTY = re.compile("utils?|helpers?|misc|impl")
# `StepCounter` counts; the banned counter was one to stand at.
EXCEPTIONS = frozenset({"StepCounter", "JobStepCounter", "RecordedStepCounter"})


def words(name: str) -> list[str]:
    """`JobStepCounter` and `job_step_counter` are job, step, counter."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def named(package: Path) -> Iterator[tuple[str, str]]:
    """Every module, class and function with its place."""
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package).as_posix()
        yield place, path.stem
        yield from ((place, folder) for folder in path.relative_to(package).parts[:-1])
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{place}:{node.lineno}", node.name


def violations(package: Path) -> list[str]:
    return [
        f"{place} {name}"
        for place, name in named(package)
        if name not in EXCEPTIONS
        and (
            any(BANNED.fullmatch(word) or EMPTY.fullmatch(word) for word in words(name))
            or re.fullmatch(r"_?Base[A-Z]\w*", name)
        )
    ]


def test_no_name_is_a_metaphor() -> None:
    assert violations(PACKAGE) == []


@pytest.mark.parametrize(
    "source",
    [
        "class FrontDesk: ...",
        "async def look_after(): ...",
        "class A:\n    def _told(self): ...",
        "class BaseStore: ...",
        "class StoreImpl: ...",
    ],
)
def test_a_metaphor_is_found_wherever_it_is(source: str, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(source, encoding="utf-8")

    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize("path", ["reception.py", "office/rooms.py", "helpers.py"])
def test_so_is_a_module_or_a_folder_of_that_name(path: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text("", encoding="utf-8")

    assert len(violations(tmp_path)) == 1
