"""Schemas, values and the words made of them, for any schema and any value."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from perstack.core.typed_io import (
    INPUT_HEADING,
    completion_schema,
    describe_inputs,
    input_errors,
    normalize_inputs,
    parse_output,
    render_follow_up,
)
from perstack.definition.schema_rules import (
    JSON_TYPES,
    KEYWORDS,
    check_input_schema,
    check_output_schema,
)
from perstack.json_schema import MAX_REPORTED_ERRORS, validation_errors

NAMES = st.sampled_from(("a", "b", "c"))
SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from((0.5, 2.0, "", "a", "bb"))
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
QUICK = settings(max_examples=60, deadline=None)


COUNTS, NUMBERS = st.integers(0, 2), st.integers(-2, 2)
NAMED = st.lists(NAMES, unique=True, max_size=2)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(JSON_TYPES) | st.just(["string", "object"]),
    "enum": st.lists(SCALARS, min_size=1, max_size=3),
    "const": SCALARS,
    "required": NAMED,
    "dependentRequired": st.dictionaries(NAMES, NAMED, max_size=1),
    "minLength": COUNTS,
    "maxLength": COUNTS,
    "minItems": COUNTS,
    "maxItems": COUNTS,
    "minProperties": COUNTS,
    "maxProperties": COUNTS,
    "uniqueItems": st.booleans(),
    "minimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "multipleOf": st.sampled_from((1, 2, 0.5)),
    "pattern": st.sampled_from(("^a", "b+")),
    "description": st.just("x"),
    "x-order": SCALARS,
}
LISTS = ("prefixItems", "anyOf", "oneOf", "allOf")
TABLES = ("properties", "dependentSchemas")
SINGLE = ("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then")


def of_keywords(keywords: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    pairs = [st.tuples(st.just(name), values) for name, values in keywords.items()]
    return st.lists(st.one_of(pairs), max_size=3).map(dict)


LEAVES: st.SearchStrategy[Any] = of_keywords(PLAIN) | st.booleans() | st.just({"$ref": "#/$defs/d"})
NESTED = {
    **dict.fromkeys(LISTS, st.lists(LEAVES, min_size=1, max_size=2)),
    **dict.fromkeys(TABLES, st.dictionaries(NAMES, LEAVES, max_size=2)),
    "patternProperties": st.dictionaries(st.just("^a"), LEAVES, max_size=1),
    **dict.fromkeys(SINGLE, LEAVES),
}


def referable(pair: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    schema, definition = pair
    return {**schema, "$defs": {"d": definition}}


SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.tuples(
    of_keywords({**PLAIN, **NESTED}), of_keywords(PLAIN)
).map(referable)


def is_standard(schema: Any) -> bool:
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError:
        return False
    return True


def fits(value: Any, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)  # pyright: ignore[reportUnknownMemberType] - its stubs leave the type of a value open


@QUICK
@given(SCHEMAS)
def test_what_the_standard_has_is_accepted(schema: dict[str, Any]) -> None:
    assert is_standard(schema)
    assert check_output_schema(schema) == []


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(KEYWORDS)), JSON)
def test_what_is_not_of_the_standard_is_refused(keyword: str, value: Any) -> None:
    schema = {keyword: value}
    assert check_output_schema(schema) or is_standard(schema)


@settings(max_examples=150, deadline=None)
@given(SCHEMAS, JSON)
@example({"oneOf": [True, {"minLength": 2}]}, "bb")
@example({"properties": {"a": False}}, {"a": 1})
@example({"anyOf": [{"required": ["a"]}, {"type": "array"}]}, {})
def test_a_value_has_problems_exactly_if_it_does_not_fit(
    schema: dict[str, Any], value: Any
) -> None:
    problems = validation_errors(value, schema)
    assert (problems == ()) is fits(value, schema)
    assert all(problems)


@QUICK
@given(SCHEMAS, JSON)
def test_an_answer_is_accepted_exactly_if_it_fits(schema: dict[str, Any], value: Any) -> None:
    text, problems = parse_output({"result": value}, schema)
    if fits(value, schema):
        assert (json.loads(text), problems) == (value, ())
    elif not isinstance(value, str):
        assert problems
    assert is_standard(completion_schema(schema))


@QUICK
@given(JSON.filter(lambda value: not isinstance(value, str)))
def test_an_answer_may_be_written_as_text(value: Any) -> None:
    schema = {"type": [kind for kind in JSON_TYPES if kind != "string"]}
    written = json.dumps(value)
    for text in (written, f"```json\n{json.dumps(value, indent=1)}\n```"):
        answer, problems = parse_output({"result": text}, schema)
        assert (json.loads(answer), problems) == (value, ())


@QUICK
@given(st.dictionaries(NAMES, JSON, min_size=1), st.text("ab \n{}", max_size=5))
def test_the_words_hold_the_values_whatever_their_order(inputs: dict[str, Any], query: str) -> None:
    words = describe_inputs(inputs, query)
    backwards = describe_inputs({name: inputs[name] for name in inputs}, query)
    before, _, values = words.rpartition(INPUT_HEADING)
    assert words == backwards
    assert json.loads(values) == inputs
    assert before == (f"{query}\n\n" if query.strip() else "")
    assert render_follow_up(inputs, "more", words) == "more"


CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "integer", "default": 1}, "b": {"type": "string"}},
    "required": ["b"],
}


@QUICK
@given(st.dictionaries(st.sampled_from(("a", "b", "z")), SCALARS, max_size=3))
def test_arguments_are_accepted_exactly_if_they_fit_as_meant(inputs: dict[str, Any]) -> None:
    meant = normalize_inputs(CLOSED, inputs)
    problems = input_errors(CLOSED, meant, "", is_new=True)
    given_ones = {name: value for name, value in inputs.items() if (name, value) != ("a", None)}
    closed = {**CLOSED, "additionalProperties": False}
    assert (problems == ()) is fits(given_ones, closed)
    assert check_input_schema(CLOSED) == []


def test_a_crowd_of_problems_is_told_in_part() -> None:
    problems = validation_errors(["x"] * 100, {"items": {"type": "number"}})
    assert len(problems) == MAX_REPORTED_ERRORS + 1
    assert problems[0] == "[0] must be a number"
    assert problems[-1] == "and 80 more"


@pytest.mark.parametrize(
    ("value", "schema", "problem"),
    [
        (float("nan"), {}, "it has a number that is not finite, which JSON does not have"),
        ("x" * 5000, {"enum": ["y" * 5000]}, "…"),
        ({"a\n": 1}, {"additionalProperties": False}, "'a\\n' is unknown"),
        ({}, {"anyOf": [{"required": ["a"]}, {"type": "array"}]}, "(the nearest: a is missing)"),
        ("bb", {"oneOf": [True, {"minLength": 2}]}, "fits more than one of the forms"),
        (1, {"type": ["string", "null"]}, "it must be one of string, null"),
    ],
)
def test_problems_are_told_shortly(value: object, schema: dict[str, Any], problem: str) -> None:
    (told,) = validation_errors(value, schema)
    assert problem in told
    assert len(told) < 300


def test_a_value_that_is_nested_without_end_is_told() -> None:
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"items": {"$ref": "#/$defs/t"}}}}
    assert validation_errors(deep, tree) == ("it is nested too deeply",)
