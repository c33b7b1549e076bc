"""`[experts."<key>".tool]`: an expert as its callers see it."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from perstack.definition.diagnostics import (
    Diagnostic,
    InvalidFieldsError,
    parse_json,
    raise_field_errors,
    validated_by,
)
from perstack.definition.schema_rules import check_input_schema, check_output_schema
from perstack.models import FrozenModel, TomlTable, is_table, table_or_empty

MAX_ICON_CHARACTERS = 48_000
"""Enough for a data: URI of 32 KiB."""

_SCHEMA_HINT = "write a table, or a JSON object in single quotes"


def _parse_schema(value: object) -> object:
    """The schema itself, where it is written as JSON text."""
    schema = parse_json(value, _SCHEMA_HINT) if isinstance(value, str) else value
    if not is_table(schema):
        raise_field_errors([Diagnostic("must be a JSON Schema", _SCHEMA_HINT)])
    return schema


def schema_or_empty(value: object) -> TomlTable:
    """The table of a schema, valid or not; empty if it is no table."""
    try:
        schema = _parse_schema(value)
    except InvalidFieldsError:
        return {}
    return table_or_empty(schema)


_TEXT_OR_TABLE = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})
InputSchema = Annotated[
    dict[str, Any],
    BeforeValidator(_parse_schema),
    validated_by(check_input_schema),
    _TEXT_OR_TABLE,
]
OutputSchema = Annotated[
    dict[str, Any],
    BeforeValidator(_parse_schema),
    validated_by(check_output_schema),
    _TEXT_OR_TABLE,
]
AnnotationHint = Annotated[bool, Field(strict=True)]


class ExpertTool(FrozenModel):
    """How an expert is shown to its callers; all of it may be left out."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=255)] | None = Field(
        default=None, description="What people are shown; the expert's key if left out."
    )
    icon: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ICON_CHARACTERS)] | None = (
        Field(
            default=None,
            description="A picture: a path relative to perstack.toml, or a data: or https: URI.",
        )
    )
    read_only_hint: AnnotationHint | None = Field(
        default=None, description="Whether calls change nothing, instead of what its skills say."
    )
    destructive_hint: AnnotationHint | None = Field(
        default=None, description="Whether calls may destroy, instead of what its skills say."
    )
    open_world_hint: AnnotationHint | None = Field(
        default=None,
        description="Whether calls reach beyond this machine, instead of what its skills say.",
    )
    task_support: Literal["optional", "required"] = Field(
        default="optional",
        description="Whether only clients that take a task for a result may call the expert.",
    )
    input_schema: InputSchema | None = Field(
        default=None,
        description="JSON Schema of the arguments, as a table or as JSON text: an object.",
    )
    output_schema: OutputSchema | None = Field(
        default=None, description="JSON Schema of the answer, as a table or as JSON text."
    )
