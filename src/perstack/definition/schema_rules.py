"""Checks that a table is a JSON Schema 2020-12 that every caller supports.

Not done by a library, because importing one takes longer than a server may take to start, and
because errors are reported at their key in the file. Stricter than the standard where leniency
would hide a mistake: unknown keywords are refused, and references stay within the schema.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from perstack.definition.diagnostics import Diagnostic, did_you_mean
from perstack.models import TomlTable, is_table, table_or_empty

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMA_CHARACTERS = 20_480
MAX_DEPTH = 32
JSON_TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
RESERVED_INPUTS = frozenset(
    {
        *("job_id", "checkpoint_id", "files", "wait_seconds"),
        *("max_steps", "max_tokens", "max_cost_usd", "max_seconds"),
    }
)
"""Arguments that the tool of every expert has."""

IN_PLACE_APPLICATORS = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keywords whose subschemas apply to the same value."""

_TOP_LEVEL_UNSUPPORTED = frozenset(
    {
        "$ref",
        "enum",
        "const",
        "default",
        "minProperties",
        "maxProperties",
        "propertyNames",
        "patternProperties",
        "unevaluatedProperties",
    }
)
"""Keywords that do not allow further arguments to be added."""

_REFERENCE = re.compile(r"#(/\$defs/)?([A-Za-z0-9_.-]+)")
_ANCHOR = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_PROPERTY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

SchemaPath = tuple[str | int, ...]
KeywordCheck = Callable[[Any, SchemaPath], Iterator[Diagnostic]]


def check_input_schema(schema: TomlTable) -> list[Diagnostic]:
    """Why a table cannot be the schema of an expert's arguments."""
    errors = [*_schema_errors(schema), *_object_type_errors(schema)]
    for keyword in schema:
        if keyword in _TOP_LEVEL_UNSUPPORTED:
            reason = "cannot stand at the top: the arguments of every expert are added there"
            errors.append(Diagnostic(reason, "put it into a property", key_path=(keyword,)))
    if schema.get("additionalProperties", False) is not False:
        hint = "leave it out, and name every property"
        errors.append(Diagnostic("must be false", hint, key_path=("additionalProperties",)))
    properties = table_or_empty(schema.get("properties"))
    for name, property_schema in properties.items():
        errors += [
            Diagnostic(message, key_path=("properties", name))
            for message in _property_name_errors(name, property_schema)
        ]
    required = schema.get("required")
    if isinstance(required, list):
        for index, name in enumerate(cast("list[object]", required)):
            if isinstance(name, str) and name not in properties:
                hint = did_you_mean(name, properties)
                errors.append(Diagnostic("is no property", hint, key_path=("required", index)))
    return errors


def check_output_schema(schema: TomlTable) -> list[Diagnostic]:
    """Why a table cannot be the schema of an expert's answer."""
    return _schema_errors(schema)


def is_json(value: object) -> bool:
    """Whether a value of a TOML file is a JSON value."""
    if isinstance(value, list):
        return all(is_json(item) for item in cast("list[object]", value))
    if is_table(value):
        return all(is_json(item) for item in value.values())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _schema_errors(schema: TomlTable) -> list[Diagnostic]:
    try:
        if not is_json(schema):
            return [Diagnostic("has a value that JSON does not have, such as a date")]
        if len(json.dumps(schema, ensure_ascii=False)) > MAX_SCHEMA_CHARACTERS:
            return [Diagnostic(f"has more than {MAX_SCHEMA_CHARACTERS} characters")]
        return list(_check_schema(schema, ())) or list(_reference_errors(schema))
    except RecursionError:
        return [Diagnostic("is nested too deeply")]


def _object_type_errors(schema: TomlTable) -> Iterator[Diagnostic]:
    if schema.get("type") != "object":
        hint = 'write type = "object" and describe each argument in properties'
        yield Diagnostic("must be the schema of an object", hint, key_path=("type",))


def _property_name_errors(name: str, property_schema: object) -> Iterator[str]:
    if name in RESERVED_INPUTS:
        yield "is an argument that every expert has; choose another name"
    elif name == "query" and table_or_empty(property_schema).get("type") != "string":
        yield "must be a string: it is also the text of a follow-up"
    elif _PROPERTY_NAME.fullmatch(name) is None:
        yield "must have 1 to 64 letters, digits, _, - and . only, which is what models accept"


def _check_schema(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    if isinstance(value, bool):
        return
    if not is_table(value):
        yield Diagnostic("must be a schema: a table, or true or false", key_path=at)
        return
    if len(at) > 2 * MAX_DEPTH:
        yield Diagnostic("is nested too deeply", key_path=at)
        return
    for keyword, operand in value.items():
        keyword_path = (*at, keyword)
        check = KEYWORDS.get(keyword)
        if keyword in _UNSUPPORTED_KEYWORDS:
            yield Diagnostic(
                "is not supported", suggestion=_UNSUPPORTED_KEYWORDS[keyword], key_path=keyword_path
            )
        elif check is not None:
            yield from check(operand, keyword_path)
        elif not keyword.startswith("x-"):
            hint = did_you_mean(keyword, KEYWORDS)
            yield Diagnostic(
                "is no keyword of JSON Schema 2020-12", suggestion=hint, key_path=keyword_path
            )
    if "$schema" in value and at:
        yield Diagnostic("belongs to the top of the schema", key_path=(*at, "$schema"))


def _check_dialect(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    if not isinstance(value, str) or value.rstrip("#") != DIALECT:
        yield Diagnostic(f"must be {DIALECT}", "or leave it out", key_path=at)


def _check_reference(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    if not isinstance(value, str) or _REFERENCE.fullmatch(value) is None:
        hint = "nothing is fetched, and the schema becomes a part of a larger one"
        yield Diagnostic("must be of the form #/$defs/NAME", hint, key_path=at)


def _check_anchor(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    if len(at) != len(("$defs", "NAME", "$anchor")) or at[0] != "$defs":
        yield Diagnostic("belongs to a definition in $defs", "leave it out", key_path=at)
    elif not isinstance(value, str) or _ANCHOR.fullmatch(value) is None:
        yield Diagnostic("must be a name of letters, digits, _, - and .", key_path=at)


def _check_type(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    types = cast("list[object]", value) if isinstance(value, list) else [value]
    are_known = all(isinstance(kind, str) and kind in JSON_TYPES for kind in types)
    if not types or not are_known or len(set(map(str, types))) < len(types):
        hint = did_you_mean(value, JSON_TYPES) if isinstance(value, str) else None
        yield Diagnostic(
            f"must be one or several of {', '.join(JSON_TYPES)}", suggestion=hint, key_path=at
        )


def _check_schemas_by_name(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    if not is_table(value):
        yield Diagnostic("must be a table of schemas", key_path=at)
        return
    for name, schema in value.items():
        yield from _check_schema(schema, (*at, name))


def _check_schemas_by_pattern(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    yield from _check_schemas_by_name(value, at)
    for pattern in table_or_empty(value):
        yield from _check_pattern(pattern, (*at, pattern))


def _check_schema_list(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    if not isinstance(value, list) or not value:
        yield Diagnostic("must be a list of schemas that is not empty", key_path=at)
        return
    for index, schema in enumerate(cast("list[object]", value)):
        yield from _check_schema(schema, (*at, index))


def _check_names(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    names = cast("list[object]", value) if isinstance(value, list) else [None]
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) < len(names) or len(set(texts)) < len(texts):
        yield Diagnostic("must be a list of different names", key_path=at)


def _check_names_by_name(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    if not is_table(value):
        yield Diagnostic("must be a table of lists of names", key_path=at)
        return
    for name, names in value.items():
        yield from _check_names(names, (*at, name))


def _check_pattern(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
    try:
        re.compile(cast("str", value))
    except (re.error, TypeError, OverflowError, RecursionError):
        yield Diagnostic("is no regular expression", key_path=at)


def _requires(is_valid: Callable[[object], bool], reason: str) -> KeywordCheck:
    def check(value: object, at: SchemaPath) -> Iterator[Diagnostic]:
        if not is_valid(value):
            yield Diagnostic(reason, key_path=at)

    return check


def _is_number(value: object, *, above: float = -math.inf) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > above


_check_count = _requires(
    lambda value: isinstance(value, int) and _is_number(value, above=-1),
    "must be a whole number that is 0 or more",
)
_check_number = _requires(_is_number, "must be a number")
_check_boolean = _requires(lambda value: isinstance(value, bool), "must be true or false")
_check_string = _requires(lambda value: isinstance(value, str), "must be a text")
_accept_anything = _requires(lambda _: True, "")

KEYWORDS: dict[str, KeywordCheck] = {
    "$schema": _check_dialect,
    "$ref": _check_reference,
    "$anchor": _check_anchor,
    "type": _check_type,
    "enum": _requires(
        lambda value: isinstance(value, list) and value != [], "must be a list that is not empty"
    ),
    "const": _accept_anything,
    "default": _accept_anything,
    "examples": _requires(lambda value: isinstance(value, list), "must be a list"),
    "patternProperties": _check_schemas_by_pattern,
    "dependentRequired": _check_names_by_name,
    "required": _check_names,
    "multipleOf": _requires(lambda value: _is_number(value, above=0), "must be a number above 0"),
    "pattern": _check_pattern,
    **dict.fromkeys(("$defs", "properties", "dependentSchemas"), _check_schemas_by_name),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _check_schema_list),
    **dict.fromkeys(
        ("items", "contains", "not", "if", "then", "else", "contentSchema"), _check_schema
    ),
    **dict.fromkeys(
        (
            "additionalProperties",
            "propertyNames",
            "unevaluatedItems",
            "unevaluatedProperties",
        ),
        _check_schema,
    ),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _check_count),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), _check_count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _check_number),
    **dict.fromkeys(("uniqueItems", "readOnly", "writeOnly", "deprecated"), _check_boolean),
    **dict.fromkeys(
        ("title", "description", "$comment", "format", "contentEncoding", "contentMediaType"),
        _check_string,
    ),
}
"""The check of each keyword's value in JSON Schema 2020-12."""

_UNSUPPORTED_KEYWORDS = {
    "$id": "leave it out",
    "$dynamicAnchor": "write #/$defs/NAME in $ref",
    "$dynamicRef": "write $ref",
    "$vocabulary": "leave it out",
    "definitions": "write $defs",
    "dependencies": "write dependentRequired or dependentSchemas",
    "nullable": 'write type = ["string", "null"]',
}


def _reference_errors(schema: TomlTable) -> Iterator[Diagnostic]:
    names = table_or_empty(schema.get("$defs"))
    for name in names:
        if _PROPERTY_NAME.fullmatch(name) is None:
            yield Diagnostic(
                "must have 1 to 64 letters, digits, _, - and . only", key_path=("$defs", name)
            )
    targets, repeated = _reference_targets(names)

    def in_place(name: str) -> list[str]:
        return _in_place_references(names[name], targets)

    for name in repeated:
        yield Diagnostic("stands twice", key_path=("$defs", name, "$anchor"))
    for target, at in _iter_references(schema, ()):
        if target not in targets:
            hint = did_you_mean(target, targets)
            yield Diagnostic("points to nothing in $defs", hint, key_path=(*at, "$ref"))
        elif at[:1] == ("$defs",) and leads_to_itself(str(at[1]), in_place):
            yield Diagnostic("leads back to itself without an end", key_path=(*at, "$ref"))


def _reference_targets(names: TomlTable) -> tuple[dict[str, str], list[str]]:
    """The definition of each reference target, and the names of those with a repeated anchor."""
    targets = {f"#/$defs/{name}": name for name in names}
    repeated: list[str] = []
    for name, definition in names.items():
        anchor = table_or_empty(definition).get("$anchor")
        if isinstance(anchor, str) and targets.setdefault(f"#{anchor}", name) != name:
            repeated.append(name)
    return targets, repeated


def _iter_references(value: object, at: SchemaPath) -> Iterator[tuple[str, SchemaPath]]:
    """The references of a schema and its subschemas, with their paths."""
    if not is_table(value):
        return
    if isinstance(value.get("$ref"), str):
        yield str(value["$ref"]), at
    for keyword, operand in value.items():
        check = KEYWORDS.get(keyword)
        if check is _check_schema:
            yield from _iter_references(operand, (*at, keyword))
        elif check in (_check_schemas_by_name, _check_schemas_by_pattern):
            for name, inner in table_or_empty(operand).items():
                yield from _iter_references(inner, (*at, keyword, name))
        elif check is _check_schema_list:
            for index, inner in enumerate(cast("list[object]", operand)):
                yield from _iter_references(inner, (*at, keyword, index))


def leads_to_itself(name: str, followed_by: Callable[[str], Iterable[str]]) -> bool:
    """Whether following a definition to those that apply in its place leads back to it."""
    seen: set[str] = set()
    pending = [*followed_by(name)]
    while pending:
        target = pending.pop()
        if target == name:
            return True
        if target not in seen:
            seen.add(target)
            pending += followed_by(target)
    return False


def _in_place_references(value: object, targets: dict[str, str]) -> list[str]:
    """The definitions that apply to the same value as a schema."""
    return [
        targets[target]
        for target, at in _iter_references(value, ())
        if target in targets
        and all(isinstance(part, int) or part in IN_PLACE_APPLICATORS for part in at)
    ]
