"""The schema of an answer: a flat form of plain values, choices and lists of choices.

No more than that can be shown as a form by the programs that people sit in front of.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, cast

from perstack.definition.faults import Fault

Schema = dict[str, Any]

MAX_FIELDS = 32
_COMMON = {"type", "title", "description", "default"}
_KEYWORDS: dict[str, set[str]] = {
    "string": {*_COMMON, "minLength", "maxLength", "format", "enum", "enumNames", "oneOf"},
    "number": {*_COMMON, "minimum", "maximum"},
    "integer": {*_COMMON, "minimum", "maximum"},
    "boolean": _COMMON,
    "array": {*_COMMON, "items", "minItems", "maxItems"},
}
_OF_FORM = {"$schema", "type", "title", "description", "properties", "required"}
_TYPE_OF_KEYWORD: dict[str, type | tuple[type, ...]] = {
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
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_SECRET_WORDS = re.compile(
    "password|passwords|passwd|passphrase|passcode|pwd|secret|secrets|credential|credentials"
    "|apikey|cvv|cvc|otp"
)
_SECRET_PAIRS = frozenset(
    f"{first} key" for first in ("api", "access", "private", "secret", "encryption", "signing")
)
_HINT = "a form may have fields of type string, number, integer, boolean and array of choices"


def answer_schema_faults(text: str) -> list[Fault]:
    """Why a text is not the JSON Schema of a form that may be shown."""
    try:
        schema: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return [Fault(f"is not JSON at character {error.pos + 1}", suggestion=_HINT)]
    except (ValueError, RecursionError):
        return [Fault("is not JSON", suggestion=_HINT)]
    problems = [*form_problems(schema)]
    if problems:
        return [Fault(problem, suggestion=_HINT) for problem in problems]
    return [
        Fault(
            f"asks for a secret: field {name!r}",
            suggestion="keys and passwords belong into environment variables; see `requiredEnv`",
        )
        for name in secret_fields(schema)
    ]


def form_problems(schema: object) -> Iterator[str]:
    """What keeps a schema from being a flat form."""
    if not isinstance(schema, dict):
        yield "must be the schema of an object"
        return
    form = cast("Schema", schema)
    if form.get("type") != "object":
        yield 'must have "type": "object"'
    yield from _unknown(form, _OF_FORM, "the form")
    fields = form.get("properties")
    if not isinstance(fields, dict):
        yield "has no properties"
        return
    named = cast("dict[str, Any]", fields)
    if len(named) > MAX_FIELDS:
        yield f"has more than {MAX_FIELDS} fields"
    for name, field in named.items():
        yield from _field_problems(f"field {name!r}", field)
    required: object = form.get("required", [])
    if not _is_texts(required) or not set(cast("list[str]", required)) <= set(named):
        yield "requires what is not one of its properties"


def without_unknown_keywords(schema: object) -> Schema:
    """A form with only those keywords that forms have; what is no form is left as it is."""
    if not isinstance(schema, dict):
        return {}
    form = {key: value for key, value in cast("Schema", schema).items() if key in _OF_FORM}
    fields = form.get("properties")
    if not isinstance(fields, dict):
        return form
    return {
        **form,
        "properties": {
            name: _known(field) for name, field in cast("dict[str, object]", fields).items()
        },
    }


def secret_fields(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields of a form, one without problems, that ask for a password, a key or the like."""
    fields: dict[str, Schema] = schema["properties"]
    return tuple(name for name, field in fields.items() if _is_secret(name, field))


def choices_of(field: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The values that a field or, for a list, its items may have; `None` if they are free."""
    if field.get("type") == "array":
        return choices_of(field.get("items", {}))
    if "enum" in field:
        return tuple(field["enum"])
    titled = field.get("oneOf", field.get("anyOf"))
    return None if titled is None else tuple(choice["const"] for choice in titled)


def _is_secret(name: str, field: Schema) -> bool:
    if field.get("format") == "password":
        return True
    if field["type"] != "string" or choices_of(field) is not None:
        return False
    return _names_a_secret(name) or _names_a_secret(field.get("title", ""))


def _names_a_secret(text: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(text)]
    if not words:
        return False
    pairs = {f"{first} {second}" for first, second in pairwise(words)}
    is_named = any(_SECRET_WORDS.fullmatch(word) for word in words)
    return is_named or bool(_SECRET_PAIRS & pairs) or words[-1] == "token"


def _known(field: object) -> object:
    if not isinstance(field, dict):
        return field
    described = cast("Schema", field)
    keywords = _KEYWORDS.get(str(described.get("type")), _COMMON)
    # A password's format is kept: it says what the field is, and the form is refused for it.
    kept = {
        key: value
        for key, value in described.items()
        if key in keywords and (key != "format" or value in (*_FORMATS, "password"))
    }
    # Some servers write `enum` alone, which says as much.
    return {"type": "string", **kept, "enum": described["enum"]} if _is_bare(described) else kept


def _is_bare(field: Schema) -> bool:
    return "type" not in field and "enum" in field


def _field_problems(where: str, field: object) -> Iterator[str]:
    if not isinstance(field, dict):
        yield f"{where} is no schema"
        return
    described = cast("Schema", field)
    kind: object = described.get("type")
    if not isinstance(kind, str) or kind not in _KEYWORDS:
        yield f"{where} has no type that a form can have"
        return
    yield from _unknown(described, _KEYWORDS[kind], where)
    for key, expected in _TYPE_OF_KEYWORD.items():
        value: object = described.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, expected)):
            yield f"{where} has a {key} of the wrong type"
    if described.get("format") not in {*_FORMATS, None, "password"}:
        yield f"{where} has a format other than {', '.join(sorted(_FORMATS))}"
    yield from _choice_problems(where, kind, described)


def _choice_problems(where: str, kind: str, field: Schema) -> Iterator[str]:
    if kind == "array":
        items: object = field.get("items")
        if not isinstance(items, dict):
            yield f"{where} is a list of what its items do not say"
            return
        field = cast("Schema", items)
        yield from _unknown(field, {"type", "enum", "anyOf"}, f"each item of {where}")
    given = [field[key] for key in ("enum", "oneOf", "anyOf") if key in field]
    if not given and kind == "array":
        yield f"{where} is a list of free values, not of choices"
    for choices in given:
        if not _is_texts(choices) and not _is_titled(choices):
            yield f"{where} has choices that are not texts"


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, str) for each in cast("list[object]", value)
    )


def _is_titled(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(each, dict) and isinstance(cast("Schema", each).get("const"), str)
        for each in cast("list[object]", value)
    )


def _unknown(schema: Schema, known: set[str], where: str) -> Iterator[str]:
    for key in schema:
        if key not in known:
            yield f"{where} has {key!r}, which no form has"
