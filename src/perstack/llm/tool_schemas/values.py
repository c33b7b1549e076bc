"""Repairs what keywords hold: names of types, choices, lists of required properties."""

import json
from collections.abc import Callable
from typing import Any

from perstack.definition.schema_rules import JSON_TYPES, KEYWORDS
from perstack.llm.tool_schemas.keywords import Schema, list_or_empty, types_of
from perstack.models import table_or_empty

_OTHER_TYPE_NAMES = {
    **dict.fromkeys(("str", "text", "char", "varchar", "date", "datetime", "uuid"), "string"),
    **dict.fromkeys(("int", "int32", "int64", "long", "short", "uint"), "integer"),
    **dict.fromkeys(("float", "double", "decimal", "numeric"), "number"),
    "bool": "boolean",
    **dict.fromkeys(("dict", "map", "struct", "record", "json"), "object"),
    **dict.fromkeys(("list", "tuple", "set"), "array"),
    **dict.fromkeys(("none", "nil"), "null"),
}
_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
    "object": dict,
    "null": type(None),
}
_IN_PLACE = frozenset({"$ref", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"})
_DROPPED = frozenset({"$schema", "$anchor", "$comment"})


def type_name(value: object) -> str | None:
    """The JSON type that is meant; `None` if none is."""
    name = value.strip().lower() if isinstance(value, str) else ""
    return name if name in JSON_TYPES else _OTHER_TYPE_NAMES.get(name)


def repair_value(keyword: str, value: object) -> Schema:
    """The keyword with its value, repaired if need be; empty if it has to be left out."""
    repair = _REPAIRS.get(keyword)
    if repair is not None:
        repaired = repair(value)
        return {} if repaired is None else {keyword: repaired}
    check = KEYWORDS.get(keyword)
    if check is None or keyword in _DROPPED or any(check(value, ())):
        return {}
    return {keyword: value}


def _repair_type(value: object) -> str | list[str] | None:
    kinds = [type_name(each) for each in list_or_empty(value) or [value]]
    known = list(dict.fromkeys(kind for kind in kinds if kind is not None))
    # A list with a name that is unknown allows more than the rest of it.
    if not known or len(known) < len(set(kinds)):
        return None
    return known if len(known) > 1 else known[0]


def _repair_enum(value: object) -> list[object] | None:
    choices = [value] if isinstance(value, str | int | float) else list_or_empty(value)
    return list({json.dumps(choice): choice for choice in choices}.values()) or None


def _repair_required(value: object) -> list[str] | None:
    names = [value] if isinstance(value, str) else list_or_empty(value)
    texts = [name for name in names if isinstance(name, str)]
    return list(dict.fromkeys(texts)) if isinstance(value, str | list) else None


def _repair_dependent_required(value: object) -> dict[str, list[str]] | None:
    tables = table_or_empty(value).items()
    repaired = {name: _repair_required(names) for name, names in tables}
    return {name: names for name, names in repaired.items() if names} or None


_REPAIRS: dict[str, Callable[[object], Any]] = {
    "type": _repair_type,
    "enum": _repair_enum,
    "required": _repair_required,
    "dependentRequired": _repair_dependent_required,
}


def make_consistent(schema: Schema, *, has_plain_enums: bool) -> Schema:
    """A schema whose keywords, each right by itself, go together."""
    schema = _agree_on_choices(schema, has_plain_enums=has_plain_enums)
    kinds = types_of(schema)
    if kinds and "object" not in kinds:
        schema = _without(schema, "properties", "required")
    if kinds and "array" not in kinds:
        schema = _without(schema, "items", "prefixItems")
    if "array" in kinds and "items" not in schema:
        schema = {**schema, "items": {}}
    if "required" in schema and "type" in schema and not _IN_PLACE & schema.keys():
        schema = only_declared_required(schema)
    return schema


def only_declared_required(schema: Schema) -> Schema:
    """A schema that requires only the properties that it has."""
    names: list[str] = schema.get("required", [])
    declared = [name for name in names if name in schema.get("properties", ())]
    if len(declared) == len(names):
        return schema
    return {**schema, "required": declared} if declared else _without(schema, "required")


def _agree_on_choices(schema: Schema, *, has_plain_enums: bool) -> Schema:
    if has_plain_enums and "const" in schema:
        schema = {**_without(schema, "const"), "enum": [schema["const"]]}
    choices: list[Any] | None = schema.get("enum")
    if choices is None:
        return schema
    if has_plain_enums:
        choices = [each for each in choices if _is_plain(each)]
    kinds = types_of(schema)
    fitting = [each for each in choices if any(_is_of_type(each, kind) for kind in kinds)]
    if not choices:
        return _without(schema, "enum")
    if fitting or not kinds:
        return {**schema, "enum": fitting or choices}
    # What is listed says more than the type that contradicts it.
    own_kinds = {kind for each in choices for kind in JSON_TYPES if _is_of_type(each, kind)}
    own_kinds -= {"number"} if "integer" in own_kinds else set()
    return (
        {**schema, "type": next(iter(own_kinds)), "enum": choices}
        if len(own_kinds) == 1
        else {
            **_without(schema, "type"),
            "enum": choices,
        }
    )


def _is_plain(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number or (isinstance(value, str) and bool(value))


def _is_of_type(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON_TYPES[kind])


def _without(schema: Schema, *keywords: str) -> Schema:
    if not any(keyword in schema for keyword in keywords):
        return schema
    return {keyword: value for keyword, value in schema.items() if keyword not in keywords}
