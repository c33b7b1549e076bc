"""Diagnostics from pydantic's errors, without the value, which may be a secret."""

import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from perstack.definition.diagnostics import (
    Diagnostic,
    InvalidFieldsError,
    closest_match,
    did_you_mean,
)
from perstack.definition.normalize import SKILL_MODELS
from perstack.definition.references import (
    ENVIRONMENT_PATTERN,
    EXPERT_KEY_PATTERN,
    PACKAGE_PATTERN,
    RUNTIME_VERSION_PATTERN,
    TAG_PATTERN,
    VERSION_PATTERN,
)
from perstack.definition.toml_positions import KeyPath
from perstack.models import TomlTable, is_table, table_or_empty, value_at

_EFFORTS = ("none", "minimal", "low", "medium", "high")
_PATTERN_MESSAGES = {
    EXPERT_KEY_PATTERN: (
        "is no expert name",
        "use lower-case letters, digits, - and _, as in reviewer or @reviewer/file",
    ),
    VERSION_PATTERN: ("is no semantic version", 'write one such as "1.0.0"'),
    RUNTIME_VERSION_PATTERN: ("is no version", 'write one such as "1.0.0"'),
    TAG_PATTERN: ("is no tag", "use lower-case letters, digits, - and _"),
    PACKAGE_PATTERN: ("is no package name", 'write one such as "@scope/name" or "name@1.0.0"'),
    ENVIRONMENT_PATTERN: (
        "is no name of an environment variable",
        "use letters, digits, - and _",
    ),
}
_TYPE_MESSAGES = {
    "string_type": "must be a text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "int_parsing_size": "is far too large a number",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "tuple_type": "must be a list",
}
_MISSING_KEY_HINTS = {
    "instruction": 'tell the expert what to do: instruction = "…"',
    "providerName": 'write providerName = "anthropic" or another provider',
    "command": 'say what to start: command = "npx"',
    "endpoint": 'give the URL of the server: endpoint = "https://…"',
    "tools": "add a table tools.<name> for each question",
}


def issues_from_validation_error(
    error: ValidationError, table: TomlTable, source_table: TomlTable, base: KeyPath = ()
) -> list[Diagnostic]:
    """The problems of a table.

    Args:
        error: The error of its model.
        table: The table as it was validated.
        source_table: The table as written, with all its keys.
        base: The key path of the table in the file.
    """
    issues: list[Diagnostic] = []
    for details in error.errors(include_url=False, include_input=False):
        issues += [
            each.within(*base) for each in _issues_from_details(details, table, source_table)
        ]
    return list(dict.fromkeys(issues))


def _issues_from_details(
    details: ErrorDetails, table: TomlTable, source_table: TomlTable
) -> list[Diagnostic]:
    path = _key_path(details["loc"])
    context: dict[str, Any] = details.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, InvalidFieldsError):
        return [each.within(*path) for each in cause.errors]
    if path == ("reasoningBudget",):
        return [Diagnostic(*_describe_budget_error(table["reasoningBudget"]), key_path=path)]
    if path == ("key",):
        expert_key = str(table["key"])
        return [Diagnostic(*_describe_error(details, context, expert_key))]
    if details["type"].startswith("union_tag"):
        return [_skill_type_issue(path, value_at(table, path))]
    if details["type"] == "missing":
        return [
            Diagnostic("is missing", _missing_key_hint(path, table, source_table), key_path=path)
        ]
    return [Diagnostic(*_describe_error(details, context, value_at(table, path)), key_path=path)]


def _describe_error(
    details: ErrorDetails, context: dict[str, Any], value: object
) -> tuple[str, str | None]:
    error_type = details["type"]
    if error_type in _TYPE_MESSAGES:
        hint = (
            "put it in brackets: […]" if error_type == "tuple_type" and _is_scalar(value) else None
        )
        if details["loc"] == ("provider",):
            hint = 'write [provider] and below it providerName = "…"'
        return f"{_TYPE_MESSAGES[error_type]}, not {_describe_kind(value)}", hint
    if error_type == "string_pattern_mismatch":
        return _PATTERN_MESSAGES.get(
            str(context.get("pattern")), ("is not of the right form", None)
        )
    if error_type == "literal_error":
        return _describe_literal_error(_expected_options(str(context.get("expected", ""))), value)
    if error_type in _LIMIT_MESSAGES:
        return _LIMIT_MESSAGES[error_type](context), None
    if error_type == "value_error":
        return str(context.get("error", "is not valid")), None
    return "is not valid", None


_LIMIT_MESSAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "string_too_short": lambda _context: "must not be empty",
    "string_too_long": lambda context: f"has more than {context['max_length']} characters",
    "too_short": lambda context: f"must have at least {_count_entries(context['min_length'])}",
    "too_long": lambda context: f"has more than {_count_entries(context['max_length'])}",
    "greater_than_equal": lambda context: f"must be {context['ge']} or more",
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "less_than_equal": lambda context: f"must be {context['le']} or less",
}


def _count_entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _expected_options(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _describe_literal_error(options: list[str], value: object) -> tuple[str, str | None]:
    quoted = ", ".join(f'"{choice}"' for choice in options)
    reason = f"must be {quoted}" if len(options) == 1 else f"must be one of {quoted}"
    return reason, did_you_mean(value, options) if isinstance(value, str) else None


def _describe_budget_error(value: object) -> tuple[str, str | None]:
    efforts = ", ".join(f'"{effort}"' for effort in _EFFORTS)
    hint = did_you_mean(value, _EFFORTS) if isinstance(value, str) else None
    return f"must be one of {efforts}, or a number of tokens that is 0 or more", hint


def _skill_type_issue(path: KeyPath, skill: object) -> Diagnostic:
    known_types = list(SKILL_MODELS)
    declared_type = skill.get("type") if is_table(skill) else None
    if declared_type is None:
        hint = 'write type = "mcpStdioSkill" for a local server, "mcpSseSkill" for a remote one'
        return Diagnostic("is missing", hint, key_path=(*path, "type"))
    reason, hint = _describe_literal_error(known_types, declared_type)
    # The skill's other keys are better evidence of its type than the spelling.
    likely_types = [name for name, key in _SKILL_TYPE_KEYS if is_table(skill) and key in skill]
    return Diagnostic(
        reason,
        f'did you mean "{likely_types[0]}"?' if likely_types else hint,
        key_path=(*path, "type"),
    )


_SKILL_TYPE_KEYS = (
    ("mcpSseSkill", "endpoint"),
    ("interactiveSkill", "tools"),
    ("mcpStdioSkill", "command"),
)


def _missing_key_hint(path: KeyPath, table: TomlTable, source_table: TomlTable) -> str | None:
    name = str(path[-1])
    known_table = table_or_empty(value_at(table, path[:-1]))
    unknown = [
        key for key in table_or_empty(value_at(source_table, path[:-1])) if key not in known_table
    ]
    closest = closest_match(name, unknown, cutoff=0.75)
    return f'is "{closest}" meant to be it?' if closest else _MISSING_KEY_HINTS.get(name)


def _key_path(location: tuple[int | str, ...]) -> KeyPath:
    """The path in the file: without the union members and key markers that pydantic adds."""
    if location[:1] == ("reasoningBudget",):
        return ("reasoningBudget",)
    path = tuple(part for part in location if part != "[key]")
    if path[:1] == ("skills",) and path[2:3] and path[2] in SKILL_MODELS:
        return path[:2] + path[3:]
    return path


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _describe_kind(value: object) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (str, "a text"),
        (int, "a number"),
        (float, "a number"),
        (list, "a list"),
        (dict, "a table"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "a date or a time")
