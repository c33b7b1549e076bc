"""The schema of an answer: a flat form of plain values, choices and lists of choices.

MCP clients can show no other form to a user.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, cast

from perstack.definition.diagnostics import Diagnostic, parse_json

Schema = dict[str, Any]

MAX_FIELDS = 32
_COMMON_KEYWORDS = {"type", "title", "description", "default"}
_KEYWORDS_BY_TYPE: dict[str, set[str]] = {
    "string": {*_COMMON_KEYWORDS, "minLength", "maxLength", "format", "enum", "enumNames", "oneOf"},
    "number": {*_COMMON_KEYWORDS, "minimum", "maximum"},
    "integer": {*_COMMON_KEYWORDS, "minimum", "maximum"},
    "boolean": _COMMON_KEYWORDS,
    "array": {*_COMMON_KEYWORDS, "items", "minItems", "maxItems"},
}
_FORM_KEYWORDS = {"$schema", "type", "title", "description", "properties", "required"}
_KEYWORD_VALUE_TYPES: dict[str, type | tuple[type, ...]] = {
    "title": str,
    "description": str,
    "minLength": int,
    "maxLength": int,
    "minItems": int,
    "maxItems": int,
    "minimum": (int, float),
    "maximum": (int, float),
}
_FORMATS = frozenset({"date", "date-time", "email", "uri"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SECRET_WORDS = re.compile(
    "password|passwords|passwd|passphrase|passcode|pwd|secret|secrets|credential|credentials"
    "|apikey|cvv|cvc|otp"
)
_SECRET_PAIRS = frozenset(
    f"{first} key" for first in ("api", "access", "private", "secret", "encryption", "signing")
)
_FORM_HINT = "a form may have fields of type string, number, integer, boolean and array of choices"


def check_answer_schema(text: str) -> list[Diagnostic]:
    """Why a text is not the JSON Schema of a form that may be shown.

    Raises:
        InvalidFieldsError: It is not JSON.
    """
    schema = cast("Schema", parse_json(text, _FORM_HINT))
    errors = [*form_schema_errors(schema)]
    if errors:
        return [Diagnostic(problem, _FORM_HINT) for problem in errors]
    return [
        Diagnostic(
            f"asks for a secret: field {name!r}",
            suggestion="keys and passwords belong into environment variables; see `requiredEnv`",
        )
        for name in secret_fields(schema)
    ]


def form_schema_errors(schema: object) -> Iterator[str]:
    """Why a schema is not a flat form."""
    if not isinstance(schema, dict):
        yield "must be the schema of an object"
        return
    form = cast("Schema", schema)
    if form.get("type") != "object":
        yield 'must have "type": "object"'
    yield from _unknown_keyword_errors(form, _FORM_KEYWORDS, "the form")
    fields = form.get("properties")
    if not isinstance(fields, dict):
        yield "has no properties"
        return
    named_fields = cast("dict[str, Any]", fields)
    if len(named_fields) > MAX_FIELDS:
        yield f"has more than {MAX_FIELDS} fields"
    for name, field in named_fields.items():
        yield from _field_schema_errors(f"field {name!r}", field)
    required: object = form.get("required", [])
    if not _is_string_list(required) or not set(cast("list[str]", required)) <= set(named_fields):
        yield "requires what is not one of its properties"


def without_unknown_keywords(schema: object) -> Schema:
    """A form without the keywords that forms do not have."""
    if not isinstance(schema, dict):
        return {}
    form = {key: value for key, value in cast("Schema", schema).items() if key in _FORM_KEYWORDS}
    fields = form.get("properties")
    if not isinstance(fields, dict):
        return form
    return {
        **form,
        "properties": {
            name: _with_known_keywords(field)
            for name, field in cast("dict[str, object]", fields).items()
        },
    }


def secret_fields(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of a form, one without problems, that ask for a password, a key or the like."""
    fields: dict[str, Schema] = schema["properties"]
    return tuple(name for name, field in fields.items() if _is_secret(name, field))


def field_choices(field: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The values that a field or, for a list, its items may have; `None` if they are free."""
    if field.get("type") == "array":
        return field_choices(field.get("items", {}))
    if "enum" in field:
        return tuple(field["enum"])
    titled_choices = field.get("oneOf", field.get("anyOf"))
    return None if titled_choices is None else tuple(choice["const"] for choice in titled_choices)


def _is_secret(name: str, field: Schema) -> bool:
    if field.get("format") == "password":
        return True
    if field["type"] != "string" or field_choices(field) is not None:
        return False
    return _names_a_secret(name) or _names_a_secret(field.get("title", ""))


def _names_a_secret(text: str) -> bool:
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return False
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    is_named = any(_SECRET_WORDS.fullmatch(word) for word in words)
    return is_named or bool(_SECRET_PAIRS & pairs) or words[-1] == "token"


def _with_known_keywords(field: object) -> object:
    if not isinstance(field, dict):
        return field
    schema = cast("Schema", field)
    keywords = _KEYWORDS_BY_TYPE.get(str(schema.get("type")), _COMMON_KEYWORDS)
    # A password's format is kept: it says what the field is, and the form is refused for it.
    known = {
        key: value
        for key, value in schema.items()
        if key in keywords and (key != "format" or value in (*_FORMATS, "password"))
    }
    # Some servers write `enum` alone, which says as much.
    return (
        {"type": "string", **known, "enum": schema["enum"]} if _is_untyped_enum(schema) else known
    )


def _is_untyped_enum(field: Schema) -> bool:
    return "type" not in field and "enum" in field


def _field_schema_errors(label: str, field: object) -> Iterator[str]:
    if not isinstance(field, dict):
        yield f"{label} is no schema"
        return
    schema = cast("Schema", field)
    field_type: object = schema.get("type")
    if not isinstance(field_type, str) or field_type not in _KEYWORDS_BY_TYPE:
        yield f"{label} has no type that a form can have"
        return
    yield from _unknown_keyword_errors(schema, _KEYWORDS_BY_TYPE[field_type], label)
    for key, expected in _KEYWORD_VALUE_TYPES.items():
        value: object = schema.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, expected)):
            yield f"{label} has a {key} of the wrong type"
    if schema.get("format") not in {*_FORMATS, None, "password"}:
        yield f"{label} has a format other than {', '.join(sorted(_FORMATS))}"
    yield from _choice_errors(label, field_type, schema)


def _choice_errors(label: str, field_type: str, field: Schema) -> Iterator[str]:
    if field_type == "array":
        items: object = field.get("items")
        if not isinstance(items, dict):
            yield f"{label} is a list of what its items do not say"
            return
        field = cast("Schema", items)
        yield from _unknown_keyword_errors(
            field, {"type", "enum", "anyOf"}, f"each item of {label}"
        )
    choice_lists = [field[key] for key in ("enum", "oneOf", "anyOf") if key in field]
    if not choice_lists and field_type == "array":
        yield f"{label} is a list of free values, not of choices"
    for choices in choice_lists:
        if not _is_string_list(choices) and not _is_titled_choice_list(choices):
            yield f"{label} has choices that are not texts"


def _is_string_list(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str) for each in cast("list[object]", value)
    )


def _is_titled_choice_list(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(cast("Schema", each).get("const"), str)
        for each in cast("list[object]", value)
    )


def _unknown_keyword_errors(schema: Schema, allowed: set[str], label: str) -> Iterator[str]:
    for key in schema:
        if key not in allowed:
            yield f"{label} has {key!r}, which no form has"
