"""The top of a schema without combinations, which providers refuse there."""

from collections.abc import Iterable, Mapping
from typing import Any

from perstack.llm.tool_schemas.keywords import ALTERNATIVES, Schema, types_of
from perstack.llm.tool_schemas.values import only_declared_required

_REPLACED = frozenset(
    {
        *("$ref", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
        *("dependentSchemas", "enum", "const"),
    }
)
_CHOICE_KEYWORDS = frozenset({"type", "const", "enum", "title", "description", "default"})
_MERGED = frozenset({"type", "properties", "required", "additionalProperties"})


def flatten_top(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """A schema with the properties of all its branches and without the branches.

    It requires what every branch requires. Equal to the schema if that has no branches.

    Args:
        schema: A repaired schema.
        definitions: What it refers to, by name.
    """
    if not _REPLACED & schema.keys():
        return schema
    return only_declared_required(_flatten(schema, definitions, {}))


def _flatten(schema: Schema, definitions: Mapping[str, Schema], known: dict[str, Schema]) -> Schema:
    """The same for any schema; `known` are the definitions that were flattened already."""
    flat = {key: value for key, value in schema.items() if key not in _REPLACED}
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        if name not in known:
            known[name] = {}  # for as long as it leads back to itself
            known[name] = _flatten(definitions[name], definitions, known)
        flat = _with_base(flat, known[name])
    for branch in schema.get("allOf", ()):
        flat = _with_base(flat, _flatten(branch, definitions, known))
    for branches in _alternatives(schema):
        flattened = [_flatten(branch, definitions, known) for branch in branches]
        objects = [each for each in flattened if "object" in (types_of(each) or ("object",))]
        flat = _with_alternatives(flat, objects)
    return flat


def _alternatives(schema: Schema) -> Iterable[list[Schema]]:
    for keyword in ALTERNATIVES:
        if keyword in schema:
            yield schema[keyword]
    if "then" in schema or "else" in schema:
        yield [schema.get("then", {}), schema.get("else", {})]
    if "dependentSchemas" in schema:
        yield [*schema["dependentSchemas"].values(), {}]


def _with_base(schema: Schema, base: Schema) -> Schema:
    """A schema with what another one says that holds too."""
    is_alone = "properties" not in schema
    inherited = {
        key: value
        for key, value in base.items()
        if key not in schema and (is_alone or key not in _MERGED)
    }
    properties = {**base.get("properties", {}), **schema.get("properties", {})}
    for name in base.get("properties", {}):
        properties[name] = {**base["properties"][name], **properties[name]}
    merged = {**schema, **inherited}
    return _with_properties(
        merged, properties, [*schema.get("required", ()), *base.get("required", ())]
    )


def _with_alternatives(schema: Schema, branches: list[Schema]) -> Schema:
    if not branches:
        return schema
    properties = dict(schema.get("properties", {}))
    tables = [branch.get("properties", {}) for branch in branches]
    for name in dict.fromkeys(name for table in tables for name in table):
        union = _union([table[name] for table in tables if name in table])
        own = properties.get(name)
        if own is None:
            properties[name] = union
        elif all(name in table for table in tables):
            properties[name] = {**own, **union}
    required = [
        name
        for name in branches[0].get("required", ())
        if all(name in branch.get("required", ()) for branch in branches)
    ]
    return _with_properties(schema, properties, [*schema.get("required", ()), *required])


def _with_properties(schema: Schema, properties: Schema, required: list[str]) -> Schema:
    merged = {**schema, "properties": properties}
    return {**merged, "required": list(dict.fromkeys(required))} if required else merged


def _union(schemas: list[Schema]) -> Schema:
    """A schema for the values of any of several."""
    distinct = [each for index, each in enumerate(schemas) if each not in schemas[:index]]
    if len(distinct) == 1:
        return distinct[0]
    if not all(_is_choice(each) for each in distinct):
        return {"anyOf": distinct}
    choices: list[Any] = []
    for each in distinct:
        listed: list[Any] = each.get("enum") or [each["const"]]
        choices += [choice for choice in listed if choice not in choices]
    common = {
        key: value
        for key, value in distinct[0].items()
        if key not in ("const", "enum") and all(each.get(key) == value for each in distinct)
    }
    return {**common, "enum": choices}


def _is_choice(schema: Schema) -> bool:
    return ("const" in schema or "enum" in schema) and schema.keys() <= _CHOICE_KEYWORDS
