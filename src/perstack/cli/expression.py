"""Filter expressions over the JSON form of an event, such as `.toolCalls[].toolName == "exec"`."""

import operator
import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from typing import Any, cast

Json = dict[str, Any]
Value = str | float | bool
Expression = Callable[[Json], bool]

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_SHAPE = re.compile(r"\s*((?:\.[\w$@/-]+(?:\[\])?)+)\s*(==|!=|>=|<=|>|<)(.*)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def filter_expression(text: str) -> Expression:
    """A test of events: `.path op value`.

    A path leads through objects; at an array it leads into each of its elements, with or without
    `[]`. An event passes if anything that the path leads to compares as wanted; nothing does that
    is not there. A value is a quoted string, a number, `true`, `false` or a bare word.
    """
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise ArgumentTypeError(
            f"Invalid filter expression: {text}; write .path op value, such as .stepNumber > 3"
        )
    path = shape[1].replace("[]", "").split(".")[1:]
    compare = _OPERATORS[shape[2]]
    wanted = _value(shape[3].strip(), text)

    def passes(event: Json) -> bool:
        return any(_holds(compare, found, wanted) for found in _at(event, path))

    return passes


def _value(word: str, text: str) -> Value:
    if not word:
        raise ArgumentTypeError(f"Missing value in filter expression: {text}")
    if word in ("true", "false"):
        return word == "true"
    if _NUMBER.fullmatch(word):
        return float(word) if set(word) & set(".eE") else int(word)
    if _QUOTED.fullmatch(word):
        return word[1:-1]
    if set(word) & set("\"'=<>") or word.split() != [word]:
        raise ArgumentTypeError(
            f"Invalid filter expression: {text}; quote a value of several words"
        )
    return word


def _at(found: object, path: list[str]) -> Iterator[object]:
    """Everything that a path leads to; an array stands for its elements."""
    if isinstance(found, list):
        for element in cast("list[object]", found):
            yield from _at(element, path)
    elif not path:
        yield found
    elif isinstance(found, dict):
        fields = cast("Json", found)
        if path[0] in fields:
            yield from _at(fields[path[0]], path[1:])


def _holds(compare: Callable[[Any, Any], bool], found: object, wanted: Value) -> bool:
    # In Python true is 1; in JSON it is not.
    is_alike = isinstance(found, str) == isinstance(wanted, str) and (
        isinstance(found, bool) == isinstance(wanted, bool)
    )
    if compare in (operator.eq, operator.ne):
        return (is_alike and found == wanted) == (compare is operator.eq)
    return is_alike and isinstance(found, str | int | float) and compare(found, wanted)
