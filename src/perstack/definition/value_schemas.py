"""Checks that a table is a JSON Schema 2020-12 which every caller can be given.

Written out, because a library for it takes longer to load than a server may take to start, and
because a mistake shall be named at its key in the file. Stricter than the standard where leniency
would hide a mistake: a word that is no keyword is refused, and references stay within the schema.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

from perstack.definition.faults import Fault
from perstack.definition.problems import did_you_mean
from perstack.definition.tables import Table, is_table

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MAX_SCHEMA_CHARACTERS = 20_480
MAX_DEPTH = 32
KINDS = ("string", "number", "integer", "boolean", "object", "array", "null")
RESERVED_INPUTS = frozenset({"job_id", "checkpoint_id", "files", "wait_seconds"})
"""Arguments that the tool of every expert has."""

COMPOSING = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
"""Keywords that say something about the very value that a schema is about."""

_WHOLE_KEYWORDS = frozenset(
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
"""What cannot be said of arguments that others are added to."""

_REFERENCE = re.compile(r"#(/\$defs/)?([A-Za-z0-9_.-]+)")
_ANCHOR = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Place = tuple[str | int, ...]
Check = Callable[[Any, Place], Iterator[Fault]]


def input_schema_faults(schema: Table) -> list[Fault]:
    """Why a table cannot be the schema of what an expert is told."""
    faults = [*_faults(schema), *_object_faults(schema)]
    for keyword in schema:
        if keyword in _WHOLE_KEYWORDS:
            reason = "cannot stand at the top: the arguments of every expert are added there"
            faults.append(Fault(reason, at=(keyword,), suggestion="put it into a property"))
    if schema.get("additionalProperties", False) is not False:
        hint = "leave it out, and name every property"
        faults.append(Fault("must be false", at=("additionalProperties",), suggestion=hint))
    properties = _table(schema.get("properties"))
    for name, described in properties.items():
        faults += [Fault(fault, at=("properties", name)) for fault in _name_faults(name, described)]
    required = schema.get("required")
    if isinstance(required, list):
        for index, name in enumerate(cast("list[object]", required)):
            if isinstance(name, str) and name not in properties:
                hint = did_you_mean(name, properties)
                faults.append(Fault("is no property", at=("required", index), suggestion=hint))
    return faults


def output_schema_faults(schema: Table) -> list[Fault]:
    """Why a table cannot be the schema of what an expert answers."""
    return _faults(schema)


def is_json(value: object) -> bool:
    """Whether a value of a TOML file could stand in a JSON file as it is."""
    if isinstance(value, list):
        return all(is_json(item) for item in cast("list[object]", value))
    if is_table(value):
        return all(is_json(item) for item in value.values())
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _faults(schema: Table) -> list[Fault]:
    try:
        if not is_json(schema):
            return [Fault("has a value that JSON does not have, such as a date")]
        if len(json.dumps(schema, ensure_ascii=False)) > MAX_SCHEMA_CHARACTERS:
            return [Fault(f"has more than {MAX_SCHEMA_CHARACTERS} characters")]
        return list(_schema(schema, ())) or list(_reference_faults(schema))
    except RecursionError:
        return [Fault("is nested too deeply")]


def _object_faults(schema: Table) -> Iterator[Fault]:
    if schema.get("type") != "object":
        hint = 'write type = "object" and describe each argument in properties'
        yield Fault("must be the schema of an object", at=("type",), suggestion=hint)


def _name_faults(name: str, described: object) -> Iterator[str]:
    if name in RESERVED_INPUTS:
        yield "is an argument that every expert has; choose another name"
    elif name == "query" and _table(described).get("type") != "string":
        yield "must be a string: it is also the text of a follow-up"
    elif _PLAIN_NAME.fullmatch(name) is None:
        yield "must have 1 to 64 letters, digits, _, - and . only, which is what models accept"


def _schema(value: object, at: Place) -> Iterator[Fault]:
    if isinstance(value, bool):
        return
    if not is_table(value):
        yield Fault("must be a schema: a table, or true or false", at=at)
        return
    if len(at) > 2 * MAX_DEPTH:
        yield Fault("is nested too deeply", at=at)
        return
    for keyword, given in value.items():
        place = (*at, keyword)
        check = KEYWORDS.get(keyword)
        if keyword in _REFUSED:
            yield Fault("is not supported", at=place, suggestion=_REFUSED[keyword])
        elif check is not None:
            yield from check(given, place)
        elif not keyword.startswith("x-"):
            hint = did_you_mean(keyword, KEYWORDS)
            yield Fault("is no keyword of JSON Schema 2020-12", at=place, suggestion=hint)
    if "$schema" in value and at:
        yield Fault("belongs to the top of the schema", at=(*at, "$schema"))


def _dialect(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, str) or value.rstrip("#") != DIALECT:
        yield Fault(f"must be {DIALECT}", at=at, suggestion="or leave it out")


def _reference(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, str) or _REFERENCE.fullmatch(value) is None:
        hint = "nothing is fetched, and the schema becomes a part of a larger one"
        yield Fault("must be of the form #/$defs/NAME", at=at, suggestion=hint)


def _anchor(value: object, at: Place) -> Iterator[Fault]:
    if len(at) != len(("$defs", "NAME", "$anchor")) or at[0] != "$defs":
        yield Fault("belongs to a definition in $defs", at=at, suggestion="leave it out")
    elif not isinstance(value, str) or _ANCHOR.fullmatch(value) is None:
        yield Fault("must be a name of letters, digits, _, - and .", at=at)


def _kind(value: object, at: Place) -> Iterator[Fault]:
    kinds = cast("list[object]", value) if isinstance(value, list) else [value]
    known = all(isinstance(kind, str) and kind in KINDS for kind in kinds)
    if not kinds or not known or len(set(map(str, kinds))) < len(kinds):
        hint = did_you_mean(value, KINDS) if isinstance(value, str) else None
        yield Fault(f"must be one or several of {', '.join(KINDS)}", at=at, suggestion=hint)


def _schemas_by_name(value: object, at: Place) -> Iterator[Fault]:
    if not is_table(value):
        yield Fault("must be a table of schemas", at=at)
        return
    for name, schema in value.items():
        yield from _schema(schema, (*at, name))


def _schemas_by_pattern(value: object, at: Place) -> Iterator[Fault]:
    yield from _schemas_by_name(value, at)
    for pattern in _table(value):
        yield from _pattern(pattern, (*at, pattern))


def _schemas(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, list) or not value:
        yield Fault("must be a list of schemas that is not empty", at=at)
        return
    for index, schema in enumerate(cast("list[object]", value)):
        yield from _schema(schema, (*at, index))


def _choices(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, list) or not value:
        yield Fault("must be a list that is not empty", at=at)


def _names(value: object, at: Place) -> Iterator[Fault]:
    names = cast("list[object]", value) if isinstance(value, list) else [None]
    texts = [name for name in names if isinstance(name, str)]
    if len(texts) < len(names) or len(set(texts)) < len(texts):
        yield Fault("must be a list of different names", at=at)


def _names_by_name(value: object, at: Place) -> Iterator[Fault]:
    if not is_table(value):
        yield Fault("must be a table of lists of names", at=at)
        return
    for name, names in value.items():
        yield from _names(names, (*at, name))


def _count(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        yield Fault("must be a whole number that is 0 or more", at=at)


def _number(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        yield Fault("must be a number", at=at)


def _step(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        yield Fault("must be a number above 0", at=at)


def _switch(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, bool):
        yield Fault("must be true or false", at=at)


def _text(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, str):
        yield Fault("must be a text", at=at)


def _pattern(value: object, at: Place) -> Iterator[Fault]:
    try:
        re.compile(cast("str", value))
    except (re.error, TypeError, OverflowError, RecursionError):
        yield Fault("is no regular expression", at=at)


def _list(value: object, at: Place) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield Fault("must be a list", at=at)


def _anything(_value: object, _at: Place) -> Iterator[Fault]:
    return iter(())


KEYWORDS: dict[str, Check] = {
    "$schema": _dialect,
    "$ref": _reference,
    "$anchor": _anchor,
    "type": _kind,
    "enum": _choices,
    "const": _anything,
    "default": _anything,
    "examples": _list,
    "patternProperties": _schemas_by_pattern,
    "dependentRequired": _names_by_name,
    "required": _names,
    "multipleOf": _step,
    "pattern": _pattern,
    **dict.fromkeys(("$defs", "properties", "dependentSchemas"), _schemas_by_name),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _schemas),
    **dict.fromkeys(("items", "contains", "not", "if", "then", "else", "contentSchema"), _schema),
    **dict.fromkeys(
        (
            "additionalProperties",
            "propertyNames",
            "unevaluatedItems",
            "unevaluatedProperties",
        ),
        _schema,
    ),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _count),
    **dict.fromkeys(("minProperties", "maxProperties", "minContains", "maxContains"), _count),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    **dict.fromkeys(("uniqueItems", "readOnly", "writeOnly", "deprecated"), _switch),
    **dict.fromkeys(
        ("title", "description", "$comment", "format", "contentEncoding", "contentMediaType"),
        _text,
    ),
}
"""What each keyword of JSON Schema 2020-12 takes."""

_REFUSED = {
    "$id": "leave it out",
    "$dynamicAnchor": "write #/$defs/NAME in $ref",
    "$dynamicRef": "write $ref",
    "$vocabulary": "leave it out",
    "definitions": "write $defs",
    "dependencies": "write dependentRequired or dependentSchemas",
    "nullable": 'write type = ["string", "null"]',
}


def _reference_faults(schema: Table) -> Iterator[Fault]:
    names = _table(schema.get("$defs"))
    for name in names:
        if _PLAIN_NAME.fullmatch(name) is None:
            yield Fault("must have 1 to 64 letters, digits, _, - and . only", at=("$defs", name))
    meant, repeated = _meant(names)
    for name in repeated:
        yield Fault("stands twice", at=("$defs", name, "$anchor"))
    for target, at in _references(schema, ()):
        if target not in meant:
            hint = did_you_mean(target, meant)
            yield Fault("points to nothing in $defs", at=(*at, "$ref"), suggestion=hint)
        elif at[:1] == ("$defs",) and _leads_back(str(at[1]), names, meant):
            yield Fault("leads back to itself without an end", at=(*at, "$ref"))


def _meant(names: Table) -> tuple[dict[str, str], list[str]]:
    """Which definition a reference means, and those whose anchor another one has already."""
    meant = {f"#/$defs/{name}": name for name in names}
    repeated: list[str] = []
    for name, definition in names.items():
        anchor = _table(definition).get("$anchor")
        if isinstance(anchor, str) and meant.setdefault(f"#{anchor}", name) != name:
            repeated.append(name)
    return meant, repeated


def _references(value: object, at: Place) -> Iterator[tuple[str, Place]]:
    """Where a schema refers to a definition, in all its parts that are schemas themselves."""
    if not is_table(value):
        return
    if isinstance(value.get("$ref"), str):
        yield str(value["$ref"]), at
    for keyword, given in value.items():
        check = KEYWORDS.get(keyword)
        if check is _schema:
            yield from _references(given, (*at, keyword))
        elif check in (_schemas_by_name, _schemas_by_pattern):
            for name, inner in _table(given).items():
                yield from _references(inner, (*at, keyword, name))
        elif check is _schemas:
            for index, inner in enumerate(cast("list[object]", given)):
                yield from _references(inner, (*at, keyword, index))


def _leads_back(name: str, names: Table, meant: dict[str, str]) -> bool:
    """Whether a definition means itself by references alone, without a part in between."""
    seen: set[str] = set()
    waiting = _direct(names[name], meant)
    while waiting:
        target = waiting.pop()
        if target == name:
            return True
        if target not in seen:
            seen.add(target)
            waiting += _direct(names[target], meant)
    return False


def _direct(value: object, meant: dict[str, str]) -> list[str]:
    """The definitions that apply to the very value that a schema applies to."""
    return [
        meant[target]
        for target, at in _references(value, ())
        if target in meant and all(isinstance(part, int) or part in COMPOSING for part in at)
    ]


def _table(value: object) -> Table:
    return value if is_table(value) else {}
