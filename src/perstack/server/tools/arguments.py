"""Validates the arguments of a call against the published schema.

Clients send `null` or an empty text for an argument that was left out, and `45.0` or "45" for 45;
these are taken as meant. An error names everything that does not fit, so that the caller can
repair it in one go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import inf
from typing import Any

from perstack.core.argument_coercion import coerce, is_absent
from perstack.core.typed_io import (
    declared_arguments,
    describe_inputs,
    input_errors,
    normalize_inputs,
    render_follow_up,
)
from perstack.definition.model import Expert
from perstack.definition.references import MAX_QUERY_CHARACTERS
from perstack.errors import PerstackError, is_quotable_name
from perstack.json_schema import type_error
from perstack.server.tools import schemas
from perstack.server.tools.client_arguments import is_client_argument
from perstack.server.tools.schemas import Schema


class InvalidArgumentsError(PerstackError):
    """The arguments of a call do not fit its tool."""

    code = "server.bad_arguments"


def validate_arguments(arguments: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """The arguments, normalized to the types of `schema`.

    Raises:
        InvalidArgumentsError: Names every argument that is missing, unknown or wrong.
    """
    parsed, problems = parse_arguments(arguments, schema)
    raise_for_problems(problems, schema)
    return parsed


def raise_for_problems(problems: Sequence[str], schema: Schema) -> None:
    """Report all problems in one error.

    Raises:
        InvalidArgumentsError: There are problems.
    """
    if problems:
        raise InvalidArgumentsError(
            f"Bad arguments: {'; '.join(problems)}.",
            hint=f"The arguments are: {', '.join(schema['properties'])}.",
        )


def parse_arguments(
    arguments: Mapping[str, Any], schema: Schema
) -> tuple[dict[str, Any], list[str]]:
    """The normalized arguments, and what is wrong with them."""
    properties: dict[str, Schema] = schema["properties"]
    required: list[str] = schema["required"]
    parsed: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in arguments.items():
        property_schema = properties.get(name)
        if property_schema is None:
            if not is_client_argument(name):
                problems.append(_unknown_problem(name, properties))
        elif name in required or not _is_omitted(value, property_schema):
            parsed[name] = coerce(value, property_schema, {})
            problems += _value_problems(name, parsed[name], property_schema)
    problems += [f"{name} is missing" for name in required if name not in parsed]
    return parsed, problems


def _unknown_problem(name: str, properties: Mapping[str, Schema]) -> str:
    if not is_quotable_name(name[:60]):
        return "one is unknown"
    near = get_close_matches(name, properties, n=1)
    return f"{name[:60]!r} is unknown{f' (did you mean {near[0]}?)' if near else ''}"


def _is_omitted(value: object, schema: Schema) -> bool:
    if value is None:
        return True
    is_free_text = schema["type"] == "string" and not schema.keys() & {"minLength", "enum"}
    return is_absent(value) and not is_free_text


def _value_problems(name: str, value: Any, schema: Schema) -> list[str]:
    if error := type_error(value, schema["type"]):
        return [f"{name} {error}"]
    match value:
        case str():
            return _string_problems(name, value, schema)
        case int() | float():
            return _number_problems(name, value, schema)
        case _:
            return _array_problems(name, value, schema)


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


def _number_problems(name: str, value: float, schema: Schema) -> list[str]:
    least: int = schema["minimum"]
    most: int | None = schema.get("maximum")
    if schema["type"] == "number":
        return [] if least < value < inf else [f"{name} must be more than {least}"]
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
        for problem in _value_problems(f"{name}[{position}]", item, schema["items"])
    ]


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The validated arguments of a call.

    Attributes:
        common: Arguments that every expert's tool has, by name; always with `query`.
        inputs: Arguments that the expert declares; `None` if it declares none.
    """

    common: Mapping[str, Any]
    inputs: Mapping[str, Any] | None = None

    @property
    def needs_previous_query(self) -> bool:
        """Whether the query depends on the earlier query of the job."""
        return bool("job_id" in self.common and self.inputs)

    def query(self, previous_query: str = "") -> str:
        """The query for the expert.

        Args:
            previous_query: The query of the job that is continued.
        """
        query: str = self.common["query"]
        if self.inputs is None:
            return query
        if "job_id" in self.common:
            return render_follow_up(self.inputs, query, previous_query)
        return describe_inputs(self.inputs, query)


def parse_call_arguments(
    expert: Expert, arguments: Mapping[str, Any], default_wait_seconds: float | None
) -> CallArguments:
    """Validate the arguments of a call of an expert's tool.

    Raises:
        InvalidArgumentsError: Names every argument that is missing, unknown or wrong.
    """
    declared_schema = expert.tool.input_schema
    common_schema = schemas.expert_input(default_wait_seconds)
    if declared_schema is not None:
        return _parse_typed_arguments(
            declared_schema,
            arguments,
            common_schema,
            schemas.expert_input(default_wait_seconds, declared_schema),
        )
    # A job id alone means to wait for the job or to resume it.
    defaults = {"query": ""} if arguments.get("job_id") else {}
    common, problems = parse_arguments({**defaults, **arguments}, common_schema)
    raise_for_problems(problems, common_schema)
    return CallArguments(common)


def _parse_typed_arguments(
    declared_schema: Schema,
    arguments: Mapping[str, Any],
    common_schema: Schema,
    full_schema: Schema,
) -> CallArguments:
    declared_properties = declared_arguments(declared_schema)
    common_arguments = {
        name: value for name, value in arguments.items() if name not in declared_properties
    }
    if common_arguments.get("query") is None:
        common_arguments["query"] = ""
    common, problems = parse_arguments(common_arguments, common_schema)
    inputs = {name: value for name, value in arguments.items() if name in declared_properties}
    is_new = "job_id" not in common
    if is_new or inputs:
        inputs = normalize_inputs(declared_schema, inputs)
    query = common_arguments["query"] if isinstance(common_arguments["query"], str) else ""
    # Before the validation, which may take long for large values.
    length = len(describe_inputs(inputs, query))
    if length > MAX_QUERY_CHARACTERS:
        reason = f"they have {length:,} characters together, more than {MAX_QUERY_CHARACTERS:,}"
        raise_for_problems([*problems, reason], full_schema)
    raise_for_problems(
        [*problems, *input_errors(declared_schema, inputs, query, is_new=is_new)], full_schema
    )
    return CallArguments(common, inputs)
