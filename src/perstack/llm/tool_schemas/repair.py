"""A schema as JSON Schema 2020-12, whatever draft or mistakes it comes with."""

import re
from typing import cast
from urllib.parse import unquote

from perstack.definition.schema_rules import leads_to_itself
from perstack.llm.providers.tool_limits import ToolLimits
from perstack.llm.tool_schemas.drafts import to_current_draft
from perstack.llm.tool_schemas.keywords import (
    SCHEMA_LISTS,
    SCHEMA_TABLES,
    SCHEMAS,
    Schema,
    list_or_empty,
)
from perstack.llm.tool_schemas.values import make_consistent, repair_value, type_name
from perstack.models import is_table, table_or_empty
from perstack.tool_names import wire_name

MAX_DEPTH = 32
"""Below it any value is allowed."""

MAX_REFERENCES = 200
"""Further definitions are any value; so are further references where they are put in, because they
may multiply each other."""

_BOOLEAN_SCHEMAS = frozenset({"additionalProperties", "unevaluatedItems", "unevaluatedProperties"})
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")


class SchemaRepair:
    """Repairs one schema.

    What cannot be repaired is left out of it, so that it allows more than it should rather than
    less: whoever executes the tool checks the arguments.

    Attributes:
        definitions: The schemas that the result refers to, by their names in `$defs`.
    """

    def __init__(self, root: Schema, limits: ToolLimits) -> None:
        self._root = root
        self._limits = limits
        self._names: dict[str, str] = {}
        self._open: list[str] = []
        self._inlined_references = 0
        self.definitions: dict[str, Schema] = {}

    def repair(self) -> Schema:
        """The whole schema without its definitions."""
        repaired = self._repair(self._root, 0)
        pending = list(self._names)
        while pending:
            for reference in pending:
                target = find_target(self._root, reference)
                self.definitions[self._names[reference]] = self._repair(target, 0)
            pending = [each for each, name in self._names.items() if name not in self.definitions]
        for name in self.definitions:
            if leads_to_itself(name, self._in_place_definitions):
                self.definitions[name] = {}
        return repaired

    def _repair(self, schema: object, depth: int) -> Schema:
        if schema is False:
            return {"not": {}}
        if isinstance(schema, str):
            kind = type_name(schema)
            return {"type": kind} if kind else {}
        if not is_table(schema) or depth > MAX_DEPTH:
            return {}
        current = to_current_draft(schema)
        repaired: Schema = {}
        for keyword, value in current.items():
            repaired |= self._repair_keyword(keyword, value, depth)
        reference: object = current.get("$ref")
        if isinstance(reference, str):
            repaired = {**self._refer(reference, depth), **repaired}
        return make_consistent(repaired, has_plain_enums=self._limits.has_plain_enums)

    def _repair_keyword(self, keyword: str, value: object, depth: int) -> Schema:
        if keyword in ("$ref", "$defs"):
            return {}
        if keyword in SCHEMA_TABLES:
            return self._repair_table(keyword, value, depth)
        if keyword in SCHEMA_LISTS:
            allowed = [each for each in list_or_empty(value) if each is not False]
            schemas = [self._repair(each, depth + 1) for each in allowed]
            return {keyword: schemas} if schemas else {}
        if keyword not in SCHEMAS:
            return repair_value(keyword, value)
        if isinstance(value, bool) and keyword in _BOOLEAN_SCHEMAS:
            return {keyword: value}
        is_schema = isinstance(value, bool) or is_table(value)
        return {keyword: self._repair(value, depth + 1)} if is_schema else {}

    def _repair_table(self, keyword: str, value: object, depth: int) -> Schema:
        is_pattern = keyword == "patternProperties"
        schemas = {
            name: self._repair(each, depth + 1)
            for name, each in table_or_empty(value).items()
            if each is not False and not (is_pattern and not _is_pattern(name))
        }
        return {keyword: schemas} if schemas or keyword == "properties" else {}

    def _refer(self, reference: str, depth: int) -> Schema:
        target = find_target(self._root, reference)
        if target is None:
            return {}
        if self._limits.has_references:
            if reference not in self._names and len(self._names) >= MAX_REFERENCES:
                return {}
            return {"$ref": f"#/$defs/{self._definition_name(reference)}"}
        self._inlined_references += 1
        if reference in self._open or self._inlined_references > MAX_REFERENCES:
            return {}
        self._open.append(reference)
        inlined = self._repair(target, depth + 1)
        self._open.pop()
        return inlined

    def _definition_name(self, reference: str) -> str:
        if reference not in self._names:
            last = _segments(reference)[-1:] or ["root"]
            name, taken, number = wire_name(last[0]), set(self._names.values()), 2
            while name in taken:
                name, number = f"{wire_name(last[0])[:60]}_{number}", number + 1
            self._names[reference] = name
        return self._names[reference]

    def _in_place_definitions(self, name: str) -> list[str]:
        return _in_place_definitions(self.definitions[name])


def find_target(root: Schema, reference: str) -> object:
    """What a reference within a schema points to; `None` if that is nothing, or elsewhere."""
    if not reference.startswith("#"):
        return None
    segments = _segments(reference)
    if reference.startswith("#/") or not segments:
        return _walk(root, segments)
    return _anchored(root, segments[0])


def _walk(value: object, segments: list[str]) -> object:
    for segment in segments:
        if isinstance(value, list):
            items = cast("list[object]", value)
            value = items[int(segment)] if segment.isdigit() and int(segment) < len(items) else None
        else:
            value = table_or_empty(value).get(segment)
    return value


def _segments(reference: str) -> list[str]:
    parts = unquote(reference).removeprefix("#").removeprefix("/").split("/")
    return [part.replace("~1", "/").replace("~0", "~") for part in parts if part]


def _anchored(root: Schema, anchor: str) -> object:
    for table in (root.get("$defs"), root.get("definitions")):
        for each in table_or_empty(table).values():
            names = (table_or_empty(each).get(keyword) for keyword in ("$anchor", "$id", "id"))
            if any(name in (anchor, f"#{anchor}") for name in names):
                return each
    return None


def _in_place_definitions(schema: Schema) -> list[str]:
    names = [str(schema["$ref"]).rpartition("/")[2]] if "$ref" in schema else []
    for keyword in _IN_PLACE_LISTS:
        for each in schema.get(keyword, ()):
            names += _in_place_definitions(each)
    return names


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return False
    return True
