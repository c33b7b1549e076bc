"""Arguments as they are meant, where a client writes numbers, lists and the like as texts.

What is meant is read from the schema alone: a text stays a text wherever the schema takes one.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from perstack.json_schema import validation_errors
from perstack.models import TomlTable, is_table, table_or_empty

MAX_DEPTH = 32
ABSENT_TEXTS = frozenset({"", "null", "none", "undefined"})
"""Texts with which clients say in their own language that there is no value."""

_LOCAL_REFERENCES = ("#/$defs/", "#/definitions/")
_WORDS = {"true": True, "false": False}

JsonTypes = frozenset[str] | None
"""Names of JSON types; `None` is any."""


def is_absent(value: object) -> bool:
    """Whether a value can stand for an argument that was left out."""
    return value is None or (isinstance(value, str) and value.strip().casefold() in ABSENT_TEXTS)


def coerce(value: object, schema: object, definitions: Mapping[str, Any], depth: int = 0) -> Any:
    """The value that is meant, down to the items of lists and the properties of objects.

    Args:
        value: What `json.loads` returns.
        schema: A JSON Schema, or `true` or `false`.
        definitions: The schemas that its references name.
        depth: How deep the value lies; beyond `MAX_DEPTH` it is returned as it is.
    """
    if depth > MAX_DEPTH or not is_table(schema):
        return value
    meant = _as_type(value, _accepted_types(schema, definitions, depth))
    if isinstance(meant, list | dict):
        for part in _conjuncts(schema, definitions, depth):
            meant = _coerce_inside(cast("object", meant), part, definitions, depth)
            meant = _coerce_to_branch(meant, part, definitions, depth)
    return cast("object", meant)


def _as_type(value: object, types: JsonTypes) -> object:
    if types is None:
        return value
    if isinstance(value, str) and "string" not in types:
        parsed = _parse_text(value)
        return _as_whole(parsed, types) if _json_types(parsed) & types else value
    return _as_whole(value, types)


def _as_whole(value: object, types: frozenset[str]) -> object:
    if isinstance(value, float) and value.is_integer() and "number" not in types:
        return int(value) if "integer" in types else value
    return value


def _parse_text(text: str) -> object:
    """The value that a text is as JSON; the text itself if it is none."""
    word = text.strip().casefold()
    if word in _WORDS:
        return _WORDS[word]
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _json_types(value: object) -> frozenset[str]:
    match value:
        case None:
            return frozenset({"null"})
        case bool():
            return frozenset({"boolean"})
        case int():
            return frozenset({"integer"})
        case float():
            return frozenset({"number", "integer"} if value.is_integer() else {"number"})
        case str():
            return frozenset({"string"})
        case list():
            return frozenset({"array"})
        case _:
            return frozenset({"object"})


def _accepted_types(schema: object, definitions: Mapping[str, Any], depth: int) -> JsonTypes:
    """The types of which a value can be that fits the schema."""
    if depth > MAX_DEPTH or not is_table(schema):
        return None
    constraints: list[JsonTypes] = [_named_types(schema)]
    constraints += [
        _accepted_types(part, definitions, depth + 1) for part in _parts(schema, definitions)
    ]
    for keyword in ("anyOf", "oneOf"):
        if branches := _tables(schema.get(keyword)):
            found = [_accepted_types(branch, definitions, depth + 1) for branch in branches]
            constraints.append(_union(found))
    return _intersection(types for types in constraints if types is not None)


def _named_types(schema: TomlTable) -> JsonTypes:
    if "const" in schema:
        return _json_types(schema["const"])
    if isinstance(allowed := schema.get("enum"), list):
        return _union(map(_json_types, cast("list[object]", allowed)))
    named: object = schema.get("type")
    if named is None:
        return None
    types = frozenset([named] if isinstance(named, str) else cast("list[str]", named))
    return types | {"integer"} if "number" in types else types


def _intersection(sets: Iterable[frozenset[str]]) -> JsonTypes:
    common: JsonTypes = None
    for types in sets:
        common = types if common is None else common & types
    return common


def _union(sets: Iterable[JsonTypes]) -> JsonTypes:
    union: frozenset[str] = frozenset()
    for types in sets:
        if types is None:
            return None
        union |= types
    return union


def _parts(schema: TomlTable, definitions: Mapping[str, Any]) -> Iterator[object]:
    """The other schemas that a value must fit too."""
    reference: object = schema.get("$ref")
    if isinstance(reference, str):
        for prefix in _LOCAL_REFERENCES:
            if reference.startswith(prefix):
                yield definitions.get(reference.removeprefix(prefix))
    yield from _tables(schema.get("allOf"))


def _conjuncts(
    schema: TomlTable, definitions: Mapping[str, Any], depth: int
) -> Iterator[TomlTable]:
    yield schema
    if depth <= MAX_DEPTH:
        for part in _parts(schema, definitions):
            if is_table(part):
                yield from _conjuncts(part, definitions, depth + 1)


def _tables(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _coerce_inside(
    value: object, schema: TomlTable, definitions: Mapping[str, Any], depth: int
) -> object:
    if is_table(value):
        properties = table_or_empty(schema.get("properties"))
        others = schema.get("additionalProperties")
        return {
            name: coerce(each, properties.get(name, others), definitions, depth + 1)
            for name, each in value.items()
        }
    if isinstance(value, list):
        first = _tables(schema.get("prefixItems"))
        rest = schema.get("items")
        return [
            coerce(each, first[index] if index < len(first) else rest, definitions, depth + 1)
            for index, each in enumerate(cast("list[object]", value))
        ]
    return value


def _coerce_to_branch(
    value: object, schema: TomlTable, definitions: Mapping[str, Any], depth: int
) -> object:
    """The value as the first branch takes it, unless one takes it as it is."""
    for keyword in ("anyOf", "oneOf"):
        branches = _tables(schema.get(keyword))
        if not branches or _fits(value, {keyword: branches}, definitions):
            continue
        for branch in branches:
            coerced = coerce(value, branch, definitions, depth + 1)
            if _fits(coerced, {"allOf": [branch]}, definitions):
                return coerced
    return value


def _fits(value: object, schema: TomlTable, definitions: Mapping[str, Any]) -> bool:
    return not validation_errors(
        value, {**schema, "$defs": definitions, "definitions": definitions}
    )
