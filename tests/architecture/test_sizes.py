"""Files and functions stay small enough to be read in one go."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("src", "tests", "scripts", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_file_fits_its_limits(source: str) -> None:
    text = (ROOT / source).read_text(encoding="utf-8")

    too_long = [
        f"{source}:{node.lineno} {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := function_length(node)) > MAX_FUNCTION_LINES
    ]
    if (lines := text.count("\n")) > MAX_FILE_LINES:
        too_long.append(f"{source} has {lines} lines, at most {MAX_FILE_LINES}")

    assert too_long == []


def test_the_limits_are_applied_to_the_package_itself() -> None:
    assert "src/perstack/__main__.py" in SOURCES


def function_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1
