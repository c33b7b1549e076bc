"""Typed arguments: checked against the schema of their expert and put into the words of a query."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from perstack.core.argument_coercion import coerce, is_absent
from perstack.json_schema import validation_errors
from perstack.models import TomlTable, is_table, table_or_empty
from perstack.text import replace_surrogates

QUERY = "query"
INPUT_HEADING = "Input:"
MAX_LINE_CHARACTERS = 120


def declared_arguments(schema: TomlTable) -> TomlTable:
    """The arguments that an expert declares, besides the free text that each expert takes."""
    properties = table_or_empty(schema.get("properties"))
    return {name: described for name, described in properties.items() if name != QUERY}


def argument_schema(input_schema: TomlTable, common: Mapping[str, TomlTable]) -> TomlTable:
    """The schema of a tool that takes what an expert declares, and what every such tool takes.

    Args:
        input_schema: What the expert declares; it may describe the free text more closely.
        common: The arguments of every such tool by name, the free text among them.
    """
    query_schema = {
        **common[QUERY],
        **table_or_empty(input_schema.get("properties")).get(QUERY, {}),
    }
    return {
        "type": "object",
        "properties": {**declared_arguments(input_schema), **common, QUERY: query_schema},
        "required": list(input_schema.get("required", ())),
        "additionalProperties": False,
        **{
            keyword: input_schema[keyword]
            for keyword in input_schema
            if keyword not in _OVERRIDDEN_KEYWORDS
        },
    }


_OVERRIDDEN_KEYWORDS = frozenset({"type", "properties", "required", "additionalProperties"})


def render_query(
    input_schema: TomlTable, inputs: Mapping[str, Any], query: str = "", *, is_new: bool = True
) -> tuple[str, tuple[str, ...]]:
    """What arguments and free text say to an expert, and what is wrong with them.

    Args:
        input_schema: What the expert declares.
        inputs: The arguments as they were given.
        query: The free text.
        is_new: As for `input_problems`.
    """
    normalized = normalize_inputs(input_schema, inputs)
    problems = input_errors(input_schema, normalized, query, is_new=is_new)
    return ("" if problems else describe_inputs(normalized, query)), problems


def normalize_inputs(schema: TomlTable, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments in the order of the schema, with its defaults, then those it does not have.

    Values are taken as they are meant: a number that is written as a text, and `null` or an empty
    text for an argument that was left out, each where it does not fit as it is.
    """
    definitions = {
        **table_or_empty(schema.get("definitions")),
        **table_or_empty(schema.get("$defs")),
    }
    declared = declared_arguments(schema)
    meant = {name: coerce(value, declared.get(name), definitions) for name, value in inputs.items()}
    present = {name: value for name, value in meant.items() if not _is_omitted(name, value, schema)}
    normalized: dict[str, Any] = {}
    for name, property_schema in declared_arguments(schema).items():
        if name in present:
            normalized[name] = present[name]
        elif "default" in table_or_empty(property_schema):
            normalized[name] = property_schema["default"]
    return {**normalized, **present}


def _is_omitted(name: str, value: object, schema: TomlTable) -> bool:
    property_schema = declared_arguments(schema).get(name)
    if property_schema is None or name in schema.get("required", ()) or not is_absent(value):
        return False
    resolvable_schema = {"$defs": table_or_empty(schema.get("$defs")), "allOf": [property_schema]}
    return bool(validation_errors(value, resolvable_schema))


def input_errors(
    schema: TomlTable, inputs: Mapping[str, Any], query: str, *, is_new: bool
) -> tuple[str, ...]:
    """What keeps arguments and free text from being what an expert takes; empty if they are.

    Args:
        schema: What it takes.
        inputs: The arguments, as they are meant.
        query: The free text.
        is_new: A new job. A continued one needs no arguments, so what is required, alone or
            together, holds for new ones only; and it takes any text.
    """
    closed_schema = {**schema, "additionalProperties": False}
    if not is_new:
        keywords = ("$defs", "properties", "additionalProperties")
        return validation_errors(
            dict(inputs), {part: closed_schema[part] for part in keywords if part in closed_schema}
        )
    has_query_schema = QUERY in table_or_empty(schema.get("properties"))
    text = {QUERY: query} if query and has_query_schema else {}
    return validation_errors({**inputs, **text}, closed_schema)


def describe_inputs(inputs: Mapping[str, Any], query: str = "") -> str:
    """The message to the expert: the free text, if any, then the arguments as JSON.

    The same values give the same text, so that a repeated request is recognised as one.
    """
    if query.strip() and not inputs:
        return query
    ordered = {name: _sort_keys(value) for name, value in inputs.items()}
    line = f"{INPUT_HEADING} {json.dumps(ordered, ensure_ascii=False)}"
    if len(line) > MAX_LINE_CHARACTERS:
        line = f"{INPUT_HEADING}\n{json.dumps(ordered, ensure_ascii=False, indent=2)}"
    text = replace_surrogates(line)
    return f"{query}\n\n{text}" if query.strip() else text


def render_follow_up(inputs: Mapping[str, Any], query: str, first_query: str) -> str:
    """The message to the expert when a job that began with `first_query` is continued.

    Callers that hold to the schema repeat the arguments that it requires; those are not news.
    """
    if not inputs:
        return query
    if first_query.endswith(describe_inputs(inputs)):
        return query
    return describe_inputs(inputs, query)


def _sort_keys(value: object) -> object:
    """A value whose objects have their keys in the order of the alphabet."""
    if is_table(value):
        return {key: _sort_keys(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sort_keys(item) for item in cast("list[object]", value)]
    return value


RESULT = "result"
_CODE_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)


def completion_schema(output_schema: TomlTable) -> TomlTable:
    """The arguments of `attemptCompletion` for an expert that declares an output schema."""
    value = {
        name: given for name, given in output_schema.items() if name not in ("$defs", "$schema")
    }
    schema: TomlTable = {
        "type": "object",
        "properties": {RESULT: value},
        "required": [RESULT],
        "additionalProperties": False,
    }
    return {**schema, "$defs": output_schema["$defs"]} if "$defs" in output_schema else schema


def parse_output(
    arguments: Mapping[str, Any], output_schema: TomlTable
) -> tuple[str, tuple[str, ...]]:
    """The answer that a completion gives, as compact JSON, and what is wrong with it.

    Models also write the value as a text, fenced or not; that is taken as meant where a text does
    not fit.
    """
    schema = completion_schema(output_schema)
    problems = validation_errors(dict(arguments), schema)
    text = arguments.get(RESULT)
    if problems and isinstance(text, str):
        try:
            arguments = {**arguments, RESULT: json.loads(_strip_code_fence(text))}
        except (ValueError, RecursionError):
            return "", problems
        problems = validation_errors(dict(arguments), schema)
    return ("" if problems else to_compact_json(arguments[RESULT])), problems


def _strip_code_fence(text: str) -> str:
    """The content of the only fence of a text, else the text."""
    fenced: list[str] = _CODE_FENCE.findall(text)
    return fenced[0] if len(fenced) == 1 else text


def to_compact_json(value: object) -> str:
    """A value as JSON without spaces."""
    return replace_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
