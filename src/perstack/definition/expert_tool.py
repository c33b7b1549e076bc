"""`[experts."<key>".tool]`: an expert as its callers see it."""

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from perstack.definition.faults import Fault, FaultsError, raise_if_any
from perstack.definition.record import Record
from perstack.definition.tables import Table, is_table, table_or_empty
from perstack.definition.value_schemas import input_schema_faults, output_schema_faults

MAX_ICON_CHARACTERS = 48_000
"""Enough for a data: URI of 32 KiB."""

_HINT = "write a table, or a JSON object in single quotes"


def _parsed(value: object) -> object:
    """A schema that was written as JSON text, as the table that it stands for."""
    if not isinstance(value, str):
        if not is_table(value):
            raise_if_any([Fault("must be a JSON Schema", suggestion=_HINT)])
        return value
    try:
        schema: object = json.loads(value)
    except json.JSONDecodeError as error:
        raise_if_any([Fault(f"is not JSON at character {error.pos + 1}", suggestion=_HINT)])
    except (ValueError, RecursionError):
        raise_if_any([Fault("is not JSON", suggestion=_HINT)])
    else:
        if not is_table(schema):
            raise_if_any([Fault("must be a JSON Schema", suggestion=_HINT)])
        return schema
    return None


def written_schema(value: object) -> Table:
    """What a file has as a schema, whether it can be accepted or not; empty if it is none."""
    try:
        schema = _parsed(value)
    except FaultsError:
        return {}
    return table_or_empty(schema)


def _checked_input(schema: Table) -> Table:
    raise_if_any(input_schema_faults(schema))
    return schema


def _checked_output(schema: Table) -> Table:
    raise_if_any(output_schema_faults(schema))
    return schema


_WRITTEN = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]})
InputSchema = Annotated[
    dict[str, Any], BeforeValidator(_parsed), AfterValidator(_checked_input), _WRITTEN
]
OutputSchema = Annotated[
    dict[str, Any], BeforeValidator(_parsed), AfterValidator(_checked_output), _WRITTEN
]
Claim = Annotated[bool, Field(strict=True)]


class ExpertTool(Record):
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
    read_only_hint: Claim | None = Field(
        default=None, description="Whether calls change nothing, instead of what its skills say."
    )
    destructive_hint: Claim | None = Field(
        default=None, description="Whether calls may destroy, instead of what its skills say."
    )
    open_world_hint: Claim | None = Field(
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
