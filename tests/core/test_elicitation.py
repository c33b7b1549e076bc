"""Answers of the user: what fits a form, what a text stands for, what an expert is told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.core.elicitation import (
    answer_format,
    describe_fields,
    form_errors,
    format_content,
    parse_reply,
)
from perstack.definition.form_schema import (
    form_schema_errors,
    secret_fields,
    without_unknown_keywords,
)


def form(*required: str, **fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of a form."""
    return {"type": "object", "properties": fields, "required": list(required)}


NAME = {"type": "string", "minLength": 2, "maxLength": 5}
AGE = {"type": "integer", "minimum": 0, "maximum": 150}
COLOUR = {"type": "string", "enum": ["Red", "Green"]}
TITLED = {"type": "string", "oneOf": [{"const": "r", "title": "Red"}]}
TAGS = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "maxItems": 1}
DATE = {"type": "string", "format": "date"}
TIME = {"type": "string", "format": "date-time"}
MAIL = {"type": "string", "format": "email"}
URI = {"type": "string", "format": "uri"}
PERSON = form("name", name=NAME, age=AGE)


@pytest.mark.parametrize(
    ("content", "schema", "problems"),
    [
        ({"name": "Ada", "age": 36}, PERSON, []),
        ({"name": "Ada", "age": None}, PERSON, []),
        ({"name": "Ada", "age": 36.0}, PERSON, []),
        ({"age": 36}, PERSON, ["name is missing"]),
        ({"name": "A"}, PERSON, ["name must be at least 2 characters"]),
        ({"name": "Augusta"}, PERSON, ["name must be at most 5 characters"]),
        ({"name": 5}, PERSON, ["name must be a string"]),
        ({"name": "Ada", "age": 36.5}, PERSON, ["age must be a whole number"]),
        ({"name": "Ada", "age": True}, PERSON, ["age must be an integer"]),
        ({"name": "Ada", "age": -1}, PERSON, ["age must be at least 0"]),
        ({"name": "Ada", "x": 1}, PERSON, ["'x' is unknown"]),
        ({"c": "Blue"}, form(c=COLOUR), ["c must be one of Red, Green"]),
        ({"c": "r"}, form(c=TITLED), []),
        ({"c": "Red"}, form(c=TITLED), ["c must be one of r"]),
        ({"t": ["a"]}, form(t=TAGS), []),
        ({"t": ["a", "b"]}, form(t=TAGS), ["t must be at most 1 items"]),
        ({"t": ["c"]}, form(t=TAGS), ["t must be one of a, b"]),
        ({"t": "a"}, form(t=TAGS), ["t must be an array"]),
        ({"b": "yes"}, form(b={"type": "boolean"}), ["b must be a boolean"]),
        ({}, form(), []),
        ({"d": "2026-01-31"}, form(d=DATE), []),
        ({"d": "2026-02-31"}, form(d=DATE), ["d must be of the format date"]),
        ({"d": "20260131"}, form(d=DATE), ["d must be of the format date"]),
        ({"d": "2026-01-31T10:00:00Z"}, form(d=TIME), []),
        ({"d": "2026-01-31 10:00"}, form(d=TIME), ["d must be of the format date-time"]),
        ({"m": "a@b.example"}, form(m=MAIL), []),
        ({"m": "a"}, form(m=MAIL), ["m must be of the format email"]),
        ({"u": "https://a.example/b"}, form(u=URI), []),
        ({"u": "a b"}, form(u=URI), ["u must be of the format uri"]),
    ],
)
def test_what_does_not_fit_a_form_is_named(
    content: dict[str, Any], schema: dict[str, Any], problems: list[str]
) -> None:
    assert form_errors(content, schema) == problems


@pytest.mark.parametrize(
    ("text", "schema", "content"),
    [
        ("Ada", form(name=NAME), {"name": "Ada"}),
        ("36", form(age=AGE), {"age": 36}),
        ("green", form(c=COLOUR), {"c": "Green"}),
        (" Green. ", form(c=COLOUR), {"c": "Green"}),
        ("a.", form(c={"type": "string", "enum": ["a", "a."]}), {"c": "a."}),
        ("many", form(age=AGE), {"age": "many"}),
        ("Yes.", form(b={"type": "boolean"}), {"b": True}),
        ("false", form(b={"type": "boolean"}), {"b": False}),
        ("A, b", form(t=TAGS), {"t": ["a", "b"]}),
        ('["a"]', form(t=TAGS), {"t": ["a"]}),
        ('{"name": "Ada", "age": 36}', PERSON, {"name": "Ada", "age": 36}),
        ("Ada", PERSON, {"name": "Ada"}),
        ("Ada", form("name", "age", name=NAME, age=AGE), {}),
        ("yes", form(), {}),
    ],
)
def test_a_text_stands_for_a_form(
    text: str, schema: dict[str, Any], content: dict[str, Any]
) -> None:
    assert parse_reply(text, schema) == content


@given(text=st.text())
def test_any_text_answers_a_question_for_a_text(text: str) -> None:
    content = parse_reply(text, form("answer", answer={"type": "string"}))

    assert form_errors(content, form("answer", answer={"type": "string"})) == []


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.text() | st.booleans() | st.integers() | st.lists(st.text(), max_size=3),
        min_size=2,
    )
)
def test_an_expert_can_read_every_field(content: dict[str, Any]) -> None:
    assert json.loads(format_content(content)) == content


def test_an_expert_is_told_a_single_field_by_itself() -> None:
    assert format_content({"answer": "blue"}) == "blue"
    assert format_content({"sure": True}) == "true"
    assert format_content({}) == "The user agreed."


def test_a_form_is_described_by_its_fields() -> None:
    assert describe_fields(form(name=NAME, c=COLOUR, t=TAGS)) == (
        "name (string), c (Red | Green), t (a | b)"
    )


@pytest.mark.parametrize(
    ("schema", "sentence"),
    [
        (form(c=COLOUR), "Answer with one of: Red, Green."),
        (form(c=TITLED), "Answer with one of: r."),
        (form(t=TAGS), "Answer with some of: a, b."),
        (form(b={"type": "boolean"}), "Answer with yes or no."),
        (form(n=AGE), "Answer with a whole number."),
        (form(n={"type": "number"}), "Answer with a number."),
        (form(name=NAME), ""),
        (form(), ""),
        (
            form(name=NAME, c=COLOUR),
            "Answer with a JSON object; its fields are: name (string), c (Red | Green).",
        ),
    ],
)
def test_how_to_answer_is_a_sentence(schema: dict[str, Any], sentence: str) -> None:
    assert answer_format(schema) == sentence


@pytest.mark.parametrize(
    ("name", "field", "is_secret"),
    [
        ("password", {"type": "string"}, True),
        ("user_passwd", {"type": "string"}, True),
        ("APIKey", {"type": "string"}, True),
        ("API_KEY", {"type": "string"}, True),
        ("x", {"type": "string", "title": "GitHub access token"}, True),
        ("clientSecret", {"type": "string"}, True),
        ("x", {"type": "string", "format": "password"}, True),
        ("tokenCount", {"type": "string"}, False),
        ("max_tokens", {"type": "integer"}, False),
        ("key", {"type": "string"}, False),
        ("resetPassword", {"type": "boolean"}, False),
        ("secret", {"type": "string", "enum": ["keep", "drop"]}, False),
        ("monkey", {"type": "string", "title": "Capital key"}, False),
    ],
)
def test_a_field_for_a_secret_is_found(name: str, field: dict[str, Any], is_secret: bool) -> None:
    assert secret_fields(form(**{name: field})) == ((name,) if is_secret else ())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "enum", "items", "required", "oneOf", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_a_server_sends_as_a_form_is_judged_and_never_an_accident(schema: Any) -> None:
    known = without_unknown_keywords(schema)
    if not list(form_schema_errors(known)):
        assert set(secret_fields(known)) <= set(known["properties"])
        assert isinstance(form_errors(parse_reply("x", known), known), list)
