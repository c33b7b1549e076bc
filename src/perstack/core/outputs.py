"""Typed answers: what `attemptCompletion` takes of an expert that declares what it answers."""

import json
import re
from collections.abc import Mapping
from typing import Any

from perstack.core.values import problems_of
from perstack.definition.tables import Table

RESULT = "result"
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)


def completion_schema(own: Table) -> Table:
    """The arguments of `attemptCompletion` for an expert that answers with a value of `own`."""
    value = {name: given for name, given in own.items() if name not in ("$defs", "$schema")}
    schema: Table = {
        "type": "object",
        "properties": {RESULT: value},
        "required": [RESULT],
        "additionalProperties": False,
    }
    return {**schema, "$defs": own["$defs"]} if "$defs" in own else schema


def answer_in(arguments: Mapping[str, Any], own: Table) -> tuple[str, tuple[str, ...]]:
    """The answer that a completion gives, as compact JSON, and what is wrong with it.

    Models also write the value as a text, fenced or not; that is taken as meant where a text does
    not fit.
    """
    schema = completion_schema(own)
    problems = problems_of(dict(arguments), schema)
    said = arguments.get(RESULT)
    if problems and isinstance(said, str):
        try:
            arguments = {**arguments, RESULT: json.loads(_unfenced(said))}
        except (ValueError, RecursionError):
            return "", problems
        problems = problems_of(dict(arguments), schema)
    return ("" if problems else compact(arguments[RESULT])), problems


def _unfenced(text: str) -> str:
    """What stands in the only fence of a text, or else the text."""
    fenced: list[str] = _FENCE.findall(text)
    return fenced[0] if len(fenced) == 1 else text


def compact(value: object) -> str:
    """A value as JSON without spaces."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # Half of a surrogate pair, which a model can produce, cannot be stored or sent.
    return text.encode("utf-8", "replace").decode("utf-8")
