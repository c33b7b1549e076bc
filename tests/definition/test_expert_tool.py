"""The table `tool` of an expert: what callers are shown, and the schemas that they are held to."""

import json
from pathlib import Path
from typing import Any

import pytest

from perstack.definition.expert_tool import ExpertTool
from tests.definition.sample import EXPERT, accepted, problems, warnings

INPUT = {
    "type": "object",
    "properties": {"invoice": {"type": "string"}, "pages": {"$ref": "#/$defs/pages"}},
    "required": ["invoice"],
    "$defs": {"pages": {"type": "array", "items": {"type": "integer", "minimum": 1}}},
}
WRONG_INPUTS: list[tuple[dict[str, Any], str]] = [
    ({}, 'inputSchema.type: must be the schema of an object (write type = "object"'),
    ({"type": "string"}, "inputSchema.type: must be the schema of an object"),
    (
        {"type": "object", "minProperties": 1},
        "minProperties: cannot stand at the top: the arguments",
    ),
    ({"type": "object", "additionalProperties": True}, "additionalProperties: must be false"),
    ({"type": "object", "required": ["b"]}, "required[0]: is no property"),
    ({"type": "object", "properties": {"a b": {}}}, 'properties."a b": must have 1 to 64 letters'),
]
WRONG_SCHEMAS: list[tuple[dict[str, Any], str]] = [
    ({"type": "strin"}, "type: must be one or several of string, number, integer, boolean"),
    ({"propertes": {}}, 'propertes: is no keyword of JSON Schema 2020-12 (did you mean "prop'),
    ({"items": [{}]}, "items: must be a schema: a table, or true or false"),
    ({"$ref": "https://example.com/x"}, '"$ref": must be of the form #/$defs/NAME'),
    ({"$ref": "#/$defs/x"}, '"$ref": points to nothing in $defs'),
    ({"definitions": {}}, "definitions: is not supported (write $defs)"),
    ({"$anchor": "a"}, '"$anchor": belongs to a definition in $defs'),
    ({"$defs": {"a": {"$anchor": "1 a"}}}, '"$anchor": must be a name of letters'),
    ({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, 'b."$anchor": stands twice'),
    ({"$ref": "#x"}, '"$ref": points to nothing in $defs'),
    ({"pattern": "("}, "pattern: is no regular expression"),
    ({"patternProperties": {"(": {}}}, 'patternProperties."(": is no regular expression'),
    ({"minLength": -1}, "minLength: must be a whole number that is 0 or more"),
    ({"minimum": "1"}, "minimum: must be a number"),
    ({"multipleOf": 0}, "multipleOf: must be a number above 0"),
    ({"required": ["a", "a"]}, "required: must be a list of different names"),
    ({"enum": []}, "enum: must be a list that is not empty"),
    ({"uniqueItems": "yes"}, "uniqueItems: must be true or false"),
    ({"description": 1}, "description: must be a text"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, '"$schema": must be https://json'),
    ({"properties": {"a": {"$schema": "x"}}}, '"$schema": must be https://json-schema.org'),
    ({"description": "x" * 20_480}, "outputSchema: has more than 20480 characters"),
]


def expert(table: str) -> str:
    return f'{EXPERT}[experts."a".tool]\n{table}\n'


def argument(schema: object, name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}}


def with_input(schema: object) -> str:
    return expert(f"inputSchema = '''{json.dumps(schema)}'''")


def with_output(schema: object) -> str:
    return expert(f"outputSchema = '''{json.dumps(schema)}'''")


def test_an_expert_has_an_empty_table_if_it_says_nothing(tmp_path: Path) -> None:
    assert accepted(tmp_path, EXPERT).definitions.experts["a"].tool == ExpertTool()


def test_a_schema_is_the_same_as_json_text_and_as_a_table(tmp_path: Path) -> None:
    as_table = """
[experts."a".tool.inputSchema]
type = "object"
required = ["invoice"]
[experts."a".tool.inputSchema.properties]
invoice = { type = "string" }
pages = { "$ref" = "#/$defs/pages" }
[experts."a".tool.inputSchema."$defs".pages]
type = "array"
items = { type = "integer", minimum = 1 }
"""
    read = [
        accepted(tmp_path, content, strict=True).definitions.experts["a"].tool.input_schema
        for content in (with_input(INPUT), EXPERT + as_table)
    ]

    assert read == [INPUT, INPUT]


def test_what_people_see_can_be_said(tmp_path: Path) -> None:
    seen = 'title = "Invoices"\nicon = "https://example.com/i.svg"\n'
    table = f"{seen}readOnlyHint = true\ndestructiveHint = false\n"

    tool = accepted(tmp_path, expert(table), strict=True).definitions.experts["a"].tool

    assert tool == ExpertTool(
        title="Invoices",
        icon="https://example.com/i.svg",
        read_only_hint=True,
        destructive_hint=False,
    )


@pytest.mark.parametrize("name", ["job_id", "checkpoint_id", "files", "wait_seconds"])
def test_an_argument_that_every_expert_has_cannot_be_declared(tmp_path: Path, name: str) -> None:
    (problem,) = problems(tmp_path, with_input(argument({"type": "string"}, name)))

    assert problem.startswith("perstack.toml:4:1: ")
    assert f"properties.{name}: is an argument that every expert has" in problem


def test_the_free_text_can_be_described_but_stays_a_text(tmp_path: Path) -> None:
    accepted(tmp_path, with_input(argument({"type": "string", "minLength": 3}, "query")))

    (problem,) = problems(tmp_path, with_input(argument({"type": "integer"}, "query")))
    assert "properties.query: must be a string" in problem


@pytest.mark.parametrize(("schema", "reason"), WRONG_INPUTS)
def test_arguments_are_those_of_one_closed_object(
    tmp_path: Path, schema: object, reason: str
) -> None:
    (problem,) = problems(tmp_path, with_input(schema))

    assert reason in problem


@pytest.mark.parametrize(("schema", "reason"), WRONG_SCHEMAS)
def test_a_mistake_in_a_schema_is_named_at_its_key(
    tmp_path: Path, schema: object, reason: str
) -> None:
    found = problems(tmp_path, with_output(schema))

    assert 'experts."a".tool.outputSchema' in found[0]
    assert reason in found[0]


@pytest.mark.parametrize("text", ["{", "[]", "3", "NaN", "[" * 5000])
def test_a_text_that_is_no_schema_is_refused(tmp_path: Path, text: str) -> None:
    (problem,) = problems(tmp_path, expert(f"outputSchema = '{text}'"))

    assert "write a table, or a JSON object in single quotes" in problem


def test_a_schema_that_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"items": deep}

    (problem,) = problems(tmp_path, with_output(deep))

    assert "is nested too deeply" in problem


def test_a_definition_that_means_itself_is_refused_where_a_tree_is_not(tmp_path: Path) -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"sub": {"$ref": "#/$defs/t"}}}}}
    accepted(tmp_path, with_output(tree))

    loop = {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}}
    found = problems(tmp_path, with_output(loop))

    assert [problem.rpartition(": ")[2] for problem in found] == [
        "leads back to itself without an end"
    ] * 2


def test_all_that_a_standard_schema_has_may_stand_at_the_top_of_the_arguments(
    tmp_path: Path,
) -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"place": {"$anchor": "placeDef", "type": "object"}},
        "type": "object",
        "properties": {"place": {"$ref": "#placeDef"}, "phone": {"type": "string"}},
        "additionalProperties": False,
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["place"]}]}],
        "if": {"required": ["phone"]},
        "then": {"required": ["place"]},
        "else": {},
    }

    loaded = accepted(tmp_path, with_input(schema))

    assert loaded.definitions.experts["a"].tool.input_schema == schema
    assert [
        str(warning).partition(" is ")[0].rpartition(".")[2] for warning in loaded.warnings
    ] == [
        "allOf:",
        "if:",
        "then:",
        "else:",
    ]


def test_a_date_is_no_value_of_a_schema(tmp_path: Path) -> None:
    table = '[experts."a".tool.outputSchema]\nconst = 2026-01-01\n'

    (problem,) = problems(tmp_path, EXPERT + table)

    assert "has a value that JSON does not have, such as a date" in problem


def test_a_key_of_the_table_that_stands_elsewhere_is_shown_its_place(tmp_path: Path) -> None:
    (warning,) = warnings(tmp_path, f'{EXPERT}title = "A"\n')

    assert 'it belongs to [experts."name".tool]' in warning
