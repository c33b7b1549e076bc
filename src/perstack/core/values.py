"""What keeps a value from fitting a JSON Schema, in words for the model that wrote it.

No value is repeated: whoever sent it knows it, and it may be long or secret.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from perstack.definition.tables import Table, is_table
from perstack.definition.value_schemas import is_json

MAX_PROBLEMS = 20
MAX_SHOWN = 200

Problem = tuple[str, str]
"""Where, as a path such as `lines[0].amount`, and what is wrong there."""


def problems_of(value: object, schema: Table) -> tuple[str, ...]:
    """Everything in `value` that does not fit `schema`, each with its path; empty if it fits.

    Args:
        value: What `json.loads` returns.
        schema: A JSON Schema 2020-12 that was checked when its definition was loaded.
    """
    try:
        if not is_json(value):
            return ("it has a number that is not finite, which JSON does not have",)
        found = dict.fromkeys(_problems(value, schema))
    except RecursionError:
        return ("it is nested too deeply",)
    lines = tuple(f"{path or 'it'} {reason}" for path, reason in found)
    if len(lines) <= MAX_PROBLEMS:
        return lines
    return (*lines[:MAX_PROBLEMS], f"and {len(lines) - MAX_PROBLEMS} more")


def _problems(value: Any, schema: Table) -> Iterator[Problem]:
    # Loading it takes as long as everything else that a list of tools waits for.
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - see above

    errors: Iterable[Any] = Draft202012Validator(schema).iter_errors(value)  # pyright: ignore[reportUnknownMemberType] - its stubs leave the type of a value open
    for error in errors:
        yield from _told(error)


def _told(error: Any) -> Iterator[Problem]:
    path = _path(error.absolute_path)
    keyword: str | None = error.validator
    if keyword == "required":
        present = cast("Mapping[str, object]", error.instance)
        for name in cast("list[str]", error.validator_value):
            if name not in present:
                yield _below(path, name), "is missing"
    elif keyword == "additionalProperties":
        for name in _unknown(cast("Table", error.instance), cast("Table", error.schema)):
            yield _below(path, name), "is unknown"
    elif keyword in ("anyOf", "oneOf"):
        yield path, _no_branch(error)
    else:
        words = _WORDS.get(keyword or "")
        limit: Any = error.validator_value
        yield path, words(limit) if words else f"does not fit {keyword or 'the schema'}"


def _no_branch(error: Any) -> str:
    """Which of several forms came nearest, judged by how many problems it has."""
    branches: dict[int, list[Problem]] = {}
    for inner in error.context:
        # A branch that is plainly `false` has no path; it comes near to nothing.
        branch: int | None = next(iter(inner.schema_path), None)
        if branch is not None:
            branches.setdefault(branch, []).extend(_told(inner))
    if error.context and not branches:
        return "is not allowed"
    if not branches:
        return "fits more than one of the forms of which it must fit exactly one"
    nearest = min(branches.values(), key=len)
    reasons = "; ".join(f"{path or 'it'} {reason}" for path, reason in dict.fromkeys(nearest))
    return f"fits none of the {len(error.validator_value)} allowed forms (the nearest: {reasons})"


def _unknown(value: Table, schema: Table) -> list[str]:
    patterns = _keys(schema.get("patternProperties"))
    known = _keys(schema.get("properties"))
    return [
        name
        for name in value
        if name not in known and not any(re.search(pattern, name) for pattern in patterns)
    ]


def _keys(value: object) -> list[str]:
    return list(value) if is_table(value) else []


def _path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else _below(path, part)
    return path


def _below(path: str, name: str) -> str:
    shown = name if name.isprintable() else repr(name)
    return f"{path}.{shown[:MAX_SHOWN]}" if path else shown[:MAX_SHOWN]


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _listed(values: list[object]) -> str:
    text = ", ".join(map(_shown, values))
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _kinds(kinds: object) -> str:
    if isinstance(kinds, list):
        return f"must be one of {', '.join(cast('list[str]', kinds))}"
    return f"must be {'an' if str(kinds)[0] in 'aio' else 'a'} {kinds}"


_WORDS: dict[str, Callable[[Any], str]] = {
    "type": _kinds,
    "enum": lambda choices: f"must be one of {_listed(choices)}",
    "const": lambda value: f"must be {_shown(value)}",
    "minLength": lambda count: "is empty" if count == 1 else f"has fewer than {count} characters",
    "maxLength": lambda count: f"has more than {count} characters",
    "pattern": lambda pattern: f"does not match {_shown(pattern)}",
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
"""What is said for each keyword, by what the schema gives to it."""
