"""What a validation error says, in plain words and without the value, which may be a secret."""

import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from perstack.definition.faults import FaultsError
from perstack.definition.names import (
    ENVIRONMENT_PATTERN,
    EXPERT_KEY_PATTERN,
    PACKAGE_PATTERN,
    RUNTIME_VERSION_PATTERN,
    TAG_PATTERN,
    VERSION_PATTERN,
)
from perstack.definition.positions import KeyPath
from perstack.definition.problems import Finding, did_you_mean, near_word
from perstack.definition.shape import SKILL_MODELS
from perstack.definition.tables import Table, is_table, table_or_empty, value_at

_EFFORTS = ("none", "minimal", "low", "medium", "high")
_PATTERNS = {
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
_TYPES = {
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
_MISSING = {
    "instruction": 'tell the expert what to do: instruction = "…"',
    "providerName": 'write providerName = "anthropic" or another provider',
    "command": 'say what to start: command = "npx"',
    "endpoint": 'give the URL of the server: endpoint = "https://…"',
    "tools": "add a table tools.<name> for each question",
}


def findings_of(
    error: ValidationError, table: Table, written: Table, base: KeyPath = ()
) -> list[Finding]:
    """What is wrong with a table.

    Args:
        error: What the model said.
        table: The table as it was validated.
        written: The table as it stands in the file, with all its keys.
        base: Where the table stands in the file.
    """
    found: list[Finding] = []
    for details in error.errors(include_url=False, include_input=False):
        found += [
            Finding((*base, *finding.key_path), finding.reason, finding.suggestion)
            for finding in _findings(details, table, written)
        ]
    return list(dict.fromkeys(found))


def _findings(details: ErrorDetails, table: Table, written: Table) -> list[Finding]:
    path = _key_path(details["loc"])
    context: dict[str, Any] = details.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, FaultsError):
        return [
            Finding((*path, *fault.at), fault.reason, fault.suggestion) for fault in cause.faults
        ]
    if path == ("reasoningBudget",):
        return [Finding(path, *_budget(table["reasoningBudget"]))]
    if path == ("key",):
        name = str(table["key"])
        return [Finding((), *_about(details, context, name))]
    if details["type"].startswith("union_tag"):
        return [_skill_type(path, value_at(table, path))]
    if details["type"] == "missing":
        return [Finding(path, "is missing", _missing(path, table, written))]
    return [Finding(path, *_about(details, context, value_at(table, path)))]


def _about(details: ErrorDetails, context: dict[str, Any], value: object) -> tuple[str, str | None]:
    kind = details["type"]
    if kind in _TYPES:
        hint = "put it in brackets: […]" if kind == "tuple_type" and _is_scalar(value) else None
        if details["loc"] == ("provider",):
            hint = 'write [provider] and below it providerName = "…"'
        return f"{_TYPES[kind]}, not {_kind_of(value)}", hint
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context.get("pattern")), ("is not of the right form", None))
    if kind == "literal_error":
        return _choice(_choices(str(context.get("expected", ""))), value)
    if kind in _LIMITS:
        return _LIMITS[kind](context), None
    if kind == "value_error":
        return str(context.get("error", "is not valid")), None
    return "is not valid", None


_LIMITS: dict[str, Callable[[dict[str, Any]], str]] = {
    "string_too_short": lambda _context: "must not be empty",
    "string_too_long": lambda context: f"has more than {context['max_length']} characters",
    "too_short": lambda context: f"must have at least {_entries(context['min_length'])}",
    "too_long": lambda context: f"has more than {_entries(context['max_length'])}",
    "greater_than_equal": lambda context: f"must be {context['ge']} or more",
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "less_than_equal": lambda context: f"must be {context['le']} or less",
}


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _choices(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _choice(known: list[str], value: object) -> tuple[str, str | None]:
    quoted = ", ".join(f'"{choice}"' for choice in known)
    reason = f"must be {quoted}" if len(known) == 1 else f"must be one of {quoted}"
    return reason, did_you_mean(value, known) if isinstance(value, str) else None


def _budget(value: object) -> tuple[str, str | None]:
    efforts = ", ".join(f'"{effort}"' for effort in _EFFORTS)
    hint = did_you_mean(value, _EFFORTS) if isinstance(value, str) else None
    return f"must be one of {efforts}, or a number of tokens that is 0 or more", hint


def _skill_type(path: KeyPath, skill: object) -> Finding:
    known = list(SKILL_MODELS)
    given = skill.get("type") if is_table(skill) else None
    if given is None:
        hint = 'write type = "mcpStdioSkill" for a local server, "mcpSseSkill" for a remote one'
        return Finding((*path, "type"), "is missing", hint)
    reason, hint = _choice(known, given)
    # What the skill has says more about its type than how the type is spelt.
    meant = [name for name, key in _TELLING_KEYS if is_table(skill) and key in skill]
    return Finding((*path, "type"), reason, f'did you mean "{meant[0]}"?' if meant else hint)


_TELLING_KEYS = (
    ("mcpSseSkill", "endpoint"),
    ("interactiveSkill", "tools"),
    ("mcpStdioSkill", "command"),
)


def _missing(path: KeyPath, table: Table, written: Table) -> str | None:
    name = str(path[-1])
    known = table_or_empty(value_at(table, path[:-1]))
    unknown = [key for key in table_or_empty(value_at(written, path[:-1])) if key not in known]
    near = near_word(name, unknown, cutoff=0.75)
    return f'is "{near}" meant to be it?' if near else _MISSING.get(name)


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


def _kind_of(value: object) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "true or false"),
        (str, "a text"),
        (int, "a number"),
        (float, "a number"),
        (list, "a list"),
        (dict, "a table"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "a date or a time")
