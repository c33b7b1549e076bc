"""Typed arguments: checked against the schema of their expert and put into the words of a query."""

import json
from collections.abc import Mapping
from typing import Any, cast

from perstack.core.values import problems_of
from perstack.definition.tables import Table, is_table, table_or_empty

QUERY = "query"
HEADING = "Input:"
MAX_LINE_CHARACTERS = 120


def declared(schema: Table) -> Table:
    """The arguments that an expert declares, besides the free text that each expert takes."""
    properties = table_or_empty(schema.get("properties"))
    return {name: described for name, described in properties.items() if name != QUERY}


def argument_schema(own: Table, common: Mapping[str, Table]) -> Table:
    """The schema of a tool that takes what an expert declares, and what every such tool takes.

    Args:
        own: What the expert declares; it may describe the free text more closely.
        common: The arguments of every such tool by name, the free text among them.
    """
    text = {**common[QUERY], **table_or_empty(own.get("properties")).get(QUERY, {})}
    return {
        "type": "object",
        "properties": {**declared(own), **common, QUERY: text},
        "required": list(own.get("required", ())),
        "additionalProperties": False,
        **{keyword: own[keyword] for keyword in own if keyword not in _REPLACED},
    }


_REPLACED = frozenset({"type", "properties", "required", "additionalProperties"})


def spoken(
    own: Table, inputs: Mapping[str, Any], query: str = "", *, is_new: bool = True
) -> tuple[str, tuple[str, ...]]:
    """What arguments and free text say to an expert, and what is wrong with them.

    Args:
        own: What the expert declares.
        inputs: The arguments as they were given.
        query: The free text.
        is_new: As for `input_problems`.
    """
    meant = as_meant(own, inputs)
    problems = input_problems(own, meant, query, is_new=is_new)
    return ("" if problems else in_words(meant, query)), problems


def as_meant(schema: Table, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments in the order of the schema, with its defaults, then those it does not have.

    Models send `null` where they mean "left out"; that is taken as meant where `null` does not fit.
    """
    kept = {name: value for name, value in given.items() if not _is_left_out(name, value, schema)}
    meant: dict[str, Any] = {}
    for name, described in declared(schema).items():
        if name in kept:
            meant[name] = kept[name]
        elif "default" in table_or_empty(described):
            meant[name] = described["default"]
    return {**meant, **kept}


def _is_left_out(name: str, value: object, schema: Table) -> bool:
    described = declared(schema).get(name)
    if value is not None or described is None or name in schema.get("required", ()):
        return False
    whole = {"$defs": table_or_empty(schema.get("$defs")), "allOf": [described]}
    return bool(problems_of(None, whole))


def input_problems(
    schema: Table, inputs: Mapping[str, Any], query: str, *, is_new: bool
) -> tuple[str, ...]:
    """What keeps arguments and free text from being what an expert takes; empty if they are.

    Args:
        schema: What it takes.
        inputs: The arguments, as they are meant.
        query: The free text.
        is_new: A job begins. One that goes on needs no arguments, so what must be given, alone or
            together, holds for new ones only; and it takes any text.
    """
    closed = {**schema, "additionalProperties": False}
    if not is_new:
        parts = ("$defs", "properties", "additionalProperties")
        return problems_of(dict(inputs), {part: closed[part] for part in parts if part in closed})
    is_described = QUERY in table_or_empty(schema.get("properties"))
    text = {QUERY: query} if query and is_described else {}
    return problems_of({**inputs, **text}, closed)


def in_words(inputs: Mapping[str, Any], query: str = "") -> str:
    """What the expert is told: the free text, if there is any, then the arguments as JSON.

    The same values give the same text, so that a repeated request is recognised as one.
    """
    if query.strip() and not inputs:
        return query
    arranged = {name: _arranged(value) for name, value in inputs.items()}
    line = f"{HEADING} {json.dumps(arranged, ensure_ascii=False)}"
    if len(line) > MAX_LINE_CHARACTERS:
        line = f"{HEADING}\n{json.dumps(arranged, ensure_ascii=False, indent=2)}"
    sound = line.encode("utf-8", "replace").decode("utf-8")
    return f"{query}\n\n{sound}" if query.strip() else sound


def follow_up(inputs: Mapping[str, Any], query: str, earlier: str) -> str:
    """What the expert is told when a job goes on that began with the text `earlier`.

    Callers that hold to the schema repeat the arguments that it requires; those are not news.
    """
    if not inputs:
        return query
    if earlier.endswith(in_words(inputs)):
        return query
    return in_words(inputs, query)


def _arranged(value: object) -> object:
    """A value whose objects have their keys in the order of the alphabet."""
    if is_table(value):
        return {key: _arranged(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_arranged(item) for item in cast("list[object]", value)]
    return value
