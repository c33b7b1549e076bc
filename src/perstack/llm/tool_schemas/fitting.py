"""Fits the schema of a tool's arguments to what a provider takes."""

from collections.abc import Mapping
from dataclasses import dataclass

from perstack.llm.providers.tool_limits import ToolLimits
from perstack.llm.tool_schemas.keywords import Schema, map_subschemas, types_of
from perstack.llm.tool_schemas.property_names import PropertyRenaming
from perstack.llm.tool_schemas.repair import SchemaRepair
from perstack.llm.tool_schemas.top_level import flatten_top

_PLAIN_TOP = frozenset({"type", "properties", "required"})


class UnfitSchemaError(Exception):
    """No call of the tool could be right."""


@dataclass(frozen=True, slots=True)
class FittedSchema:
    """A schema as a provider takes it.

    Attributes:
        schema: The schema.
        own_names: The tool's names of properties, by those that replace them.
    """

    schema: Schema
    own_names: dict[str, str]


def fit_schema(schema: Schema, limits: ToolLimits) -> FittedSchema:
    """The schema of a tool as a provider takes it; a good one stays as it is.

    Raises:
        UnfitSchemaError: It describes no object, which arguments are.
    """
    repair = SchemaRepair(schema, limits)
    repaired = repair.repair()
    top = flatten_top(repaired, repair.definitions)
    kinds = types_of(top)
    if kinds and "object" not in kinds:
        raise UnfitSchemaError(f"its arguments are described as {kinds[0]}, not as an object")
    fitted: Schema = {**top, "type": "object"} if "type" in top else {"type": "object", **top}
    fitted.setdefault("properties", {})
    if limits.has_plain_top:
        fitted = {key: value for key, value in fitted.items() if key in _PLAIN_TOP}
    if used := _used_definitions(fitted, repair.definitions):
        fitted["$defs"] = used
    renaming = PropertyRenaming(limits.property_names)
    renamed = renaming.rename(fitted)
    # One that is good already is not kept twice.
    return FittedSchema(schema if renamed == schema else renamed, renaming.own_names)


def _used_definitions(schema: Schema, definitions: Mapping[str, Schema]) -> dict[str, Schema]:
    """The definitions that a schema refers to, in their order."""
    used: set[str] = set()
    pending = [schema]

    def note(node: Schema) -> Schema:
        name = str(node.get("$ref", "")).rpartition("/")[2]
        if name in definitions and name not in used:
            used.add(name)
            pending.append(definitions[name])
        return map_subschemas(node, note)

    while pending:
        note(pending.pop())
    return {name: each for name, each in definitions.items() if name in used}
