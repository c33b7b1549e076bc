"""Two values that are not the same, side by side for people."""

from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

from perstack.cli.summary import short
from perstack.core.comparison import Difference

VALUE_CHARACTERS = 200
CONTEXT_LINES = 1
HEAD_LINES = 3
"""Lines with which a unified diff begins: two file names and the first place."""

Line = tuple[str, str | None]
"""A line with its colour, if it has one."""


def difference_lines(difference: Difference) -> Iterator[Line]:
    """Where two values differ, and how: `-` is the first, `+` the second."""
    yield f"  {difference.path}", None
    one, other = difference.one, difference.other
    if isinstance(one, str) and isinstance(other, str) and "\n" in one + other:
        yield from _of_texts(one, other)
        return
    if one is not None:
        yield f"    - {_value(one)}", "red"
    if other is not None:
        yield f"    + {_value(other)}", "green"


def _of_texts(one: str, other: str) -> Iterator[Line]:
    lines = unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=CONTEXT_LINES)
    for number, line in enumerate(lines):
        if number < HEAD_LINES:
            continue
        if line.startswith("@@"):
            yield "    …", "dim"
        else:
            mark = line[:1]
            colour = {"-": "red", "+": "green"}.get(mark)
            yield f"    {mark} {short(line[1:], VALUE_CHARACTERS)}", colour


def _value(value: Any) -> str:
    return short(value if isinstance(value, str) else repr(value), VALUE_CHARACTERS)
