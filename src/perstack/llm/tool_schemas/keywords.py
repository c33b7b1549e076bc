"""The keywords of JSON Schema by what they hold."""

from collections.abc import Callable
from typing import Any, cast

from perstack.models import table_or_empty

Schema = dict[str, Any]

SCHEMA_TABLES = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs"})
"""Keywords that hold schemas by name."""

SCHEMA_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
SCHEMAS = frozenset(
    {
        *("items", "contains", "not", "if", "then", "else", "contentSchema", "propertyNames"),
        *("additionalProperties", "unevaluatedItems", "unevaluatedProperties"),
    }
)
ALTERNATIVES = ("anyOf", "oneOf")


def list_or_empty(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def types_of(schema: Schema) -> tuple[str, ...]:
    """The types that a repaired schema names; none if it allows any."""
    kinds: object = schema.get("type")
    return (kinds,) if isinstance(kinds, str) else tuple(map(str, list_or_empty(kinds)))


def map_subschemas(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """A repaired schema with each of its direct subschemas changed."""
    changed = dict(schema)
    for keyword, value in schema.items():
        if keyword in SCHEMA_TABLES:
            changed[keyword] = {name: change(each) for name, each in table_or_empty(value).items()}
        elif keyword in SCHEMA_LISTS:
            changed[keyword] = [change(each) for each in value]
        elif keyword in SCHEMAS and isinstance(value, dict):
            changed[keyword] = change(cast("Schema", value))
    return changed
