"""TOML as the parser gives it: tables and arrays of any value, not yet validated."""

from typing import Any, TypeGuard, cast

Table = dict[str, Any]


def is_table(value: object) -> TypeGuard[Table]:
    """Whether a value of a TOML file is a table."""
    return isinstance(value, dict)


def table_or_empty(value: object) -> Table:
    """A value if it is a table, else one without keys."""
    return value if is_table(value) else {}


def value_at(value: object, path: tuple[str | int, ...]) -> object:
    """What stands at a path, or `None` if there is nothing."""
    for part in path:
        if is_table(value):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int):
            items = cast("list[object]", value)
            value = items[part] if part < len(items) else None
        else:
            return None
    return value
