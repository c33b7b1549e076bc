"""Two values that are not the same, side by side for people."""

from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

from perstack.analysis.diff import Difference
from perstack.cli.formatting import shorten
from perstack.cli.terminal import Line

MAX_VALUE_CHARACTERS = 200
CONTEXT_LINES = 1
DIFF_HEADER_LINES = 3
"""Lines with which a unified diff begins: two file names and the first place."""


def difference_lines(difference: Difference) -> Iterator[Line]:
    """Where two values differ, and how: `-` is the first, `+` the second."""
    yield f"  {difference.path}"
    one, other = difference.one, difference.other
    if isinstance(one, str) and isinstance(other, str) and "\n" in one + other:
        yield from _text_diff_lines(one, other)
        return
    if one is not None:
        yield f"    - {_format_value(one)}", "red"
    if other is not None:
        yield f"    + {_format_value(other)}", "green"


def _text_diff_lines(one: str, other: str) -> Iterator[Line]:
    lines = unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=CONTEXT_LINES)
    for number, line in enumerate(lines):
        if number < DIFF_HEADER_LINES:
            continue
        if line.startswith("@@"):
            yield "    …", "dim"
        else:
            mark = line[:1]
            colour = {"-": "red", "+": "green"}.get(mark)
            yield f"    {mark} {shorten(line[1:], MAX_VALUE_CHARACTERS)}", colour


def _format_value(value: Any) -> str:
    return shorten(value if isinstance(value, str) else repr(value), MAX_VALUE_CHARACTERS)
