"""Values that clients write as texts, taken as they are meant where the schema leaves no doubt."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.core.argument_coercion import coerce

INTEGER = {"type": "integer"}
TEXTS = {"type": "array", "items": {"type": "string"}}
LINE = {"type": "object", "properties": {"amount": {"type": "number"}, "name": {"type": "string"}}}
DEFINITIONS = {"line": LINE, "loop": {"type": "array", "items": {"$ref": "#/$defs/loop"}}}


@pytest.mark.parametrize(
    ("value", "schema", "meant"),
    [
        ("5", INTEGER, 5),
        (" 5 ", INTEGER, 5),
        ("-5", INTEGER, -5),
        ("5.0", INTEGER, 5),
        (5.0, INTEGER, 5),
        ("0.5", {"type": "number"}, 0.5),
        ("5", {"type": "number"}, 5),
        ("true", {"type": "boolean"}, True),
        ("False", {"type": "boolean"}, False),
        ("null", {"type": ["integer", "null"]}, None),
        ('["a", "5"]', TEXTS, ["a", "5"]),
        ('["1", 2]', {"type": "array", "items": INTEGER}, [1, 2]),
        (["1", "x"], {"type": "array", "items": INTEGER}, [1, "x"]),
        ('{"amount": "1.5", "name": "5"}', LINE, {"amount": 1.5, "name": "5"}),
        ('{"amount": "1.5"}', {"$ref": "#/$defs/line"}, {"amount": 1.5}),
        ('{"amount": "1.5"}', {"$ref": "#/definitions/line"}, {"amount": 1.5}),
        ({"x": "5"}, {"type": "object", "additionalProperties": INTEGER}, {"x": 5}),
        (["5", "a"], {"type": "array", "prefixItems": [INTEGER], "items": True}, [5, "a"]),
        ("2", {"enum": [1, 2, 3]}, 2),
        ("2", {"const": 2}, 2),
        ("5", {"anyOf": [{"type": "null"}, INTEGER]}, 5),
        ("5", {"allOf": [{"type": ["integer", "string"]}, INTEGER]}, 5),
        ({"amount": "1"}, {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/line"}]}, {"amount": 1}),
        ("[[0], [[0]]]", {"$ref": "#/$defs/loop"}, [[0], [[0]]]),
    ],
)
def test_a_text_is_the_value_that_the_schema_asks_for(
    value: object, schema: dict[str, Any], meant: object
) -> None:
    coerced = coerce(value, schema, DEFINITIONS)
    assert (coerced, type(coerced)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ("5", {"type": "string"}),
        ("true", {"type": "string", "enum": ["true", "false"]}),
        ("[1]", {"type": ["array", "string"]}),
        ("5", {"anyOf": [{"type": "string"}, INTEGER]}),
        ("5", {"enum": ["5", 5]}),
        ("5", {"description": "Anything."}),
        ("5", {"$ref": "#/$defs/nowhere"}),
        ("5", {"$ref": "#anchor"}),
        ("5", True),
        (5, {"type": "string"}),
        ("five", INTEGER),
        ("5.5", INTEGER),
        ("NaN", {"type": "number"}),
        ("Infinity", {"type": "number"}),
        ("9" * 5000, INTEGER),
        ("[" * 100_000, TEXTS),
        ("a.txt", TEXTS),
        ('"5"', INTEGER),
        ("1", {"type": "boolean"}),
        (1, {"type": "boolean"}),
        ({"amount": "1"}, {"anyOf": [LINE, {"properties": {"amount": {"type": "string"}}}]}),
        ("x", {"allOf": [{"$ref": "#/$defs/self"}]}),
    ],
)
def test_what_may_be_meant_as_it_is_stays_as_it_is(value: object, schema: Any) -> None:
    definitions = {**DEFINITIONS, "self": {"$ref": "#/$defs/self"}}
    assert coerce(value, schema, definitions) == value


def test_whole_numbers_stay_fractions_where_fractions_are_taken() -> None:
    assert type(coerce(5.0, {"type": "number"}, {})) is float


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(JSON_VALUES)
def test_no_text_is_ever_changed_where_texts_are_taken(value: object) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    text = json.dumps(value)
    assert coerce({"text": text}, schema, {}) == {"text": text}
