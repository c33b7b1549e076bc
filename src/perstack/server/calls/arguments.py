"""Checks the arguments of a call against the schema that the client was shown.

Models send `null`, an empty string or `45.0` where they mean "left out" or 45; that is taken as
meant. Whatever else does not fit is named, all of it at once, so that the caller can repair it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from perstack.errors import PerstackError, is_name
from perstack.server.calls.schemas import Schema


class BadArguments(PerstackError):
    """The arguments of a call do not fit its tool."""

    code = "server.bad_arguments"


def checked(arguments: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """The arguments that were given, each of the type that `schema` says.

    Raises:
        BadArguments: Names every argument that is missing, unknown or wrong.
    """
    given, problems = examined(arguments, schema)
    refuse(problems, schema)
    return given


def refuse(problems: Sequence[str], schema: Schema) -> None:
    """Tell the caller about all problems at once.

    Raises:
        BadArguments: There are any.
    """
    if problems:
        raise BadArguments(
            f"Bad arguments: {'; '.join(problems)}.",
            hint=f"The arguments are: {', '.join(schema['properties'])}.",
        )


def examined(arguments: Mapping[str, Any], schema: Schema) -> tuple[dict[str, Any], list[str]]:
    """The arguments as they are meant, and what is wrong with them."""
    properties: dict[str, Schema] = schema["properties"]
    required: list[str] = schema["required"]
    given: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in arguments.items():
        described = properties.get(name)
        if described is None:
            problems.append(f"{name[:60]!r} is unknown" if is_name(name[:60]) else "one is unknown")
        elif name in required or not _is_left_out(value, described):
            given[name] = _as_meant(value, described)
            problems += _problems(name, given[name], described)
    problems += [f"{name} is missing" for name in required if name not in given]
    return given, problems


def _is_left_out(value: object, schema: Schema) -> bool:
    return value is None or (value == "" and schema.get("minLength", 0) > 0)


def _as_meant(value: Any, schema: Schema) -> Any:
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole and schema["type"] == "integer" else value


def _problems(name: str, value: object, schema: Schema) -> list[str]:
    match schema["type"], value:
        case "string", str():
            return _string_problems(name, value, schema)
        case "integer", int() if not isinstance(value, bool):
            return _integer_problems(name, value, schema)
        case "array", list():
            return _array_problems(name, cast("list[object]", value), schema)
        case kind, _:
            article = "an" if kind in ("integer", "array") else "a"
            return [f"{name} must be {article} {kind}"]


def _string_problems(name: str, value: str, schema: Schema) -> list[str]:
    allowed: list[str] | None = schema.get("enum")
    if allowed is not None and value not in allowed:
        return [f"{name} must be one of {', '.join(allowed)}"]
    if len(value) < schema.get("minLength", 0):
        return [f"{name} is empty"]
    longest: int | None = schema.get("maxLength")
    if longest is not None and len(value) > longest:
        return [f"{name} has {len(value):,} characters, more than {longest:,}"]
    return []


def _integer_problems(name: str, value: int, schema: Schema) -> list[str]:
    least: int = schema["minimum"]
    most: int | None = schema.get("maximum")
    if value >= least and (most is None or value <= most):
        return []
    bounds = f"from {least}" if most is None else f"from {least} to {most}"
    return [f"{name} must be {bounds}"]


def _array_problems(name: str, value: list[object], schema: Schema) -> list[str]:
    most: int = schema["maxItems"]
    if len(value) > most:
        return [f"{name} has {len(value)} items, more than {most}"]
    return [
        problem
        for position, item in enumerate(value)
        for problem in _problems(f"{name}[{position}]", item, schema["items"])
    ]
