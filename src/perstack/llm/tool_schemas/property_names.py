"""Names of properties that a provider refuses, replaced in schemas and put back in arguments."""

import re
from collections.abc import Mapping
from typing import Any, cast

from perstack.llm.tool_schemas.keywords import Schema, map_subschemas
from perstack.models import is_table
from perstack.tool_names import property_wire_name


class PropertyRenaming:
    """Renames the properties of one tool, at any depth.

    Attributes:
        own_names: The names of the tool's schema by those that replace them.
    """

    def __init__(self, allowed: str) -> None:
        self._allowed = re.compile(allowed)
        self.own_names: dict[str, str] = {}

    def rename(self, schema: Schema) -> Schema:
        """A repaired schema with names that the provider takes."""
        renamed = map_subschemas(schema, self.rename)
        if "properties" in renamed:
            renamed["properties"] = {
                self._replacement(name): self._described(name, each)
                for name, each in renamed["properties"].items()
            }
        for keyword in ("dependentSchemas", "dependentRequired"):
            if keyword in renamed:
                renamed[keyword] = {
                    self._replacement(name): each for name, each in renamed[keyword].items()
                }
        for name, names in renamed.get("dependentRequired", {}).items():
            renamed["dependentRequired"][name] = [self._replacement(each) for each in names]
        if "required" in renamed:
            renamed["required"] = [self._replacement(name) for name in renamed["required"]]
        return renamed

    def _replacement(self, name: str) -> str:
        if self._allowed.fullmatch(name):
            return name
        replacement = property_wire_name(name)
        self.own_names[replacement] = name
        return replacement

    def _described(self, name: str, schema: Schema) -> Schema:
        """A property that says what it is really called: the rest of the texts may name it."""
        if self._allowed.fullmatch(name):
            return schema
        description: str = schema.get("description", "")
        return {**schema, "description": f"`{name}`" + (f": {description}" if description else "")}


def replace_names(arguments: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Arguments with the keys of their objects, at any depth, replaced where there are others."""
    return {names.get(key, key): _replaced(value, names) for key, value in arguments.items()}


def _replaced(value: object, names: Mapping[str, str]) -> object:
    if isinstance(value, list):
        return [_replaced(item, names) for item in cast("list[object]", value)]
    return replace_names(value, names) if is_table(value) else value
