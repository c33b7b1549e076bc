"""Validates values against JSON Schemas, with error texts for the model that wrote the value.

No text repeats the value, which may be long or secret.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from perstack.definition.schema_rules import is_json
from perstack.models import TomlTable, is_table

MAX_REPORTED_ERRORS = 20
MAX_QUOTED_CHARACTERS = 200

_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "array": list,
}

SchemaViolation = tuple[str, str]
"""The path of the value, such as `lines[0].amount`, and the error."""


def validation_errors(value: object, schema: TomlTable) -> tuple[str, ...]:
    """All violations of `schema` by `value`, each with its path.

    Args:
        value: What `json.loads` returns.
        schema: A JSON Schema 2020-12 that was checked when its definition was loaded.
    """
    try:
        if not is_json(value):
            return ("it has a number that is not finite, which JSON does not have",)
        violations = dict.fromkeys(_iter_violations(value, schema))
    except RecursionError:
        return ("it is nested too deeply",)
    lines = tuple(f"{path or 'it'} {reason}" for path, reason in violations)
    if len(lines) <= MAX_REPORTED_ERRORS:
        return lines
    return (*lines[:MAX_REPORTED_ERRORS], f"and {len(lines) - MAX_REPORTED_ERRORS} more")


def _iter_violations(value: Any, schema: TomlTable) -> Iterator[SchemaViolation]:
    # Importing it would double the time until tools can be listed.
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - see above

    errors: Iterable[Any] = Draft202012Validator(schema).iter_errors(value)  # pyright: ignore[reportUnknownMemberType] - its stubs leave the type of a value open
    for error in errors:
        yield from _describe_error(error)


def _describe_error(error: Any) -> Iterator[SchemaViolation]:
    path = _format_path(error.absolute_path)
    keyword: str | None = error.validator
    if keyword == "required":
        present = cast("Mapping[str, object]", error.instance)
        for name in cast("list[str]", error.validator_value):
            if name not in present:
                yield _join_path(path, name), "is missing"
    elif keyword == "additionalProperties":
        for name in _unknown_properties(
            cast("TomlTable", error.instance), cast("TomlTable", error.schema)
        ):
            yield _join_path(path, name), "is unknown"
    elif keyword in ("anyOf", "oneOf"):
        yield path, _describe_branch_mismatch(error)
    else:
        message = _KEYWORD_MESSAGES.get(keyword or "")
        limit: Any = error.validator_value
        yield path, message(limit) if message else f"does not fit {keyword or 'the schema'}"


def _describe_branch_mismatch(error: Any) -> str:
    branches: dict[int, list[SchemaViolation]] = {}
    for inner in error.context:
        # A branch that is `false` has no path.
        branch: int | None = next(iter(inner.schema_path), None)
        if branch is not None:
            branches.setdefault(branch, []).extend(_describe_error(inner))
    if error.context and not branches:
        return "is not allowed"
    if not branches:
        return "fits more than one of the forms of which it must fit exactly one"
    nearest = min(branches.values(), key=len)
    reasons = "; ".join(f"{path or 'it'} {reason}" for path, reason in dict.fromkeys(nearest))
    return f"fits none of the {len(error.validator_value)} allowed forms (the nearest: {reasons})"


def _unknown_properties(value: TomlTable, schema: TomlTable) -> list[str]:
    patterns = _table_keys(schema.get("patternProperties"))
    properties = _table_keys(schema.get("properties"))
    return [
        name
        for name in value
        if name not in properties and not any(re.search(pattern, name) for pattern in patterns)
    ]


def _table_keys(value: object) -> list[str]:
    return list(value) if is_table(value) else []


def _format_path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _join_path(path, part)
    return path


def _join_path(path: str, name: str) -> str:
    printable = name if name.isprintable() else repr(name)
    return (
        f"{path}.{printable[:MAX_QUOTED_CHARACTERS]}" if path else printable[:MAX_QUOTED_CHARACTERS]
    )


def _quote_json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}…"


def _list_values(values: list[object]) -> str:
    text = ", ".join(map(_quote_json, values))
    return text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}…"


def type_error(value: object, type_name: str) -> str | None:
    """Why a value is not of a JSON type: `must be an integer`; `None` if it is.

    Needs no validator, which takes long to load. `1.0` is a number and not an integer here.
    """
    if isinstance(value, bool):
        is_of_type = type_name == "boolean"
    else:
        is_of_type = isinstance(value, _PYTHON_TYPES.get(type_name, ()))
    return None if is_of_type else _describe_types(type_name)


def _describe_types(types: object) -> str:
    if isinstance(types, list):
        return f"must be one of {', '.join(cast('list[str]', types))}"
    return f"must be {'an' if str(types)[0] in 'aio' else 'a'} {types}"


_KEYWORD_MESSAGES: dict[str, Callable[[Any], str]] = {
    "type": _describe_types,
    "enum": lambda choices: f"must be one of {_list_values(choices)}",
    "const": lambda value: f"must be {_quote_json(value)}",
    "minLength": lambda count: "is empty" if count == 1 else f"has fewer than {count} characters",
    "maxLength": lambda count: f"has more than {count} characters",
    "pattern": lambda pattern: f"does not match {_quote_json(pattern)}",
    "minimum": lambda limit: f"must be {limit} or more",
    "maximum": lambda limit: f"must be {limit} or less",
    "exclusiveMinimum": lambda limit: f"must be more than {limit}",
    "exclusiveMaximum": lambda limit: f"must be less than {limit}",
    "multipleOf": lambda step: f"must be a multiple of {step}",
    "minItems": lambda count: f"has fewer than {count} items",
    "maxItems": lambda count: f"has more than {count} items",
    "uniqueItems": lambda _: "has an item twice",
    "contains": lambda _: "lacks an item of the kind that it must have",
    "minProperties": lambda count: f"has fewer than {count} properties",
    "maxProperties": lambda count: f"has more than {count} properties",
    "not": lambda _: "is of a form that is not allowed",
    "dependentRequired": lambda _: "lacks a property that another one needs",
    "unevaluatedProperties": lambda _: "has a property that is unknown",
    "unevaluatedItems": lambda _: "has an item that is unknown",
    "": lambda _: "is not allowed",
}
"""The error text of each keyword, from the keyword's value in the schema."""
