"""The base of frozen pydantic models, and access to TOML tables before validation."""

from typing import Annotated, Any, TypeGuard, cast

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class FrozenModel(BaseModel):
    """A frozen value whose TOML and JSON names are the camelCase of its Python names."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        hide_input_in_errors=True,
    )


PositiveInt = Annotated[int, Field(strict=True, ge=1)]
NaturalInt = Annotated[int, Field(strict=True, ge=0)]

TomlTable = dict[str, Any]


def is_table(value: object) -> TypeGuard[TomlTable]:
    """Whether a value of a TOML file is a table."""
    return isinstance(value, dict)


def table_or_empty(value: object) -> TomlTable:
    """A value if it is a table, else one without keys."""
    return value if is_table(value) else {}


def value_at(value: object, path: tuple[str | int, ...]) -> object:
    """The value at a path, or `None` if there is none."""
    for part in path:
        if is_table(value):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int):
            items = cast("list[object]", value)
            value = items[part] if part < len(items) else None
        else:
            return None
    return value
