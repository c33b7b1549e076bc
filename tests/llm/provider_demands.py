"""What providers refuse in the schema of a tool, as their error messages tell."""

import re
from collections.abc import Iterator
from typing import Any, cast

from jsonschema import Draft202012Validator

from perstack.llm.providers.tool_limits import ToolLimits

COMBINATIONS = ("anyOf", "oneOf", "allOf", "enum", "not", "const", "if", "then", "else", "$ref")


def refusals(schema: dict[str, Any], limits: ToolLimits) -> list[str]:
    """Why a provider with these limits would refuse the schema."""
    Draft202012Validator.check_schema(schema)
    problems = [f"{keyword} at the top" for keyword in COMBINATIONS if keyword in schema]
    if schema.get("type") != "object":
        problems.append("not an object")
    if "properties" not in schema:
        problems.append("no properties")
    if limits.has_plain_top and schema.keys() - {"type", "properties", "required"}:
        problems.append("more at the top than it takes")
    for node in subschemas(schema):
        problems += _node_refusals(node, schema, limits)
    return problems


def _node_refusals(node: dict[str, Any], root: dict[str, Any], limits: ToolLimits) -> Iterator[str]:
    kinds = node.get("type")
    if "array" in (kinds if isinstance(kinds, list) else [kinds]) and "items" not in node:
        yield "an array without items"
    for name in node.get("properties", {}):
        if not re.fullmatch(limits.property_names, name):
            yield f"the name {name!r}"
    if "$ref" in node:
        if not limits.has_references:
            yield "a reference"
        elif node["$ref"].removeprefix("#/$defs/") not in root["$defs"]:
            yield "a reference to nothing"
    if limits.has_plain_enums and not all(
        isinstance(each, int | float | str) and each != "" for each in node.get("enum", ())
    ):
        yield "a choice that is no text"


def subschemas(value: object) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it."""
    if not isinstance(value, dict):
        return
    schema = cast("dict[str, Any]", value)
    yield schema
    for keyword, operand in schema.items():
        if keyword in ("properties", "patternProperties", "$defs", "dependentSchemas"):
            for each in operand.values():
                yield from subschemas(each)
        elif keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
            for each in operand:
                yield from subschemas(each)
        elif keyword in ("items", "not", "if", "then", "else", "contains", "additionalProperties"):
            yield from subschemas(operand)
