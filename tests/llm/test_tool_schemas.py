"""Schemas of tools as providers take them: repaired, without combinations at the top, renamed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from perstack.llm.providers.registry import PROVIDER_PROFILES, provider_profile
from perstack.llm.providers.tool_limits import COMMON_LIMITS, ToolLimits
from perstack.llm.tool_schemas.fitting import UnfitSchemaError, fit_schema
from perstack.llm.tool_schemas.property_names import replace_names
from tests.llm.endpoint import MODELS
from tests.llm.provider_demands import refusals

Schema = dict[str, Any]

LIMITS = {
    name: profile.of_model(MODELS.get(name, "any")).tool_limits
    for name, profile in PROVIDER_PROFILES.items()
}
LIMITS["nova"] = provider_profile("amazon-bedrock").tool_limits
every_provider = pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS.keys())


def shown(schema: Schema, limits: ToolLimits = COMMON_LIMITS) -> Schema:
    return fit_schema(schema, limits).schema


def with_property(schema: object) -> Schema:
    return {"type": "object", "properties": {"a": schema}}


def shown_property(schema: object, limits: ToolLimits = COMMON_LIMITS) -> Schema:
    return shown(with_property(schema), limits)["properties"]["a"]


_GOOD: list[Schema] = [
    {"type": "object", "properties": {}},
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["n"],
        "properties": {
            "n": {"type": "integer", "minimum": 0, "description": "How many."},
            "list": {"type": "array", "items": {"type": ["string", "null"]}, "default": []},
            "one": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Item"}]},
        },
        "$defs": {"Item": {"type": "object", "properties": {"child": {"$ref": "#/$defs/Item"}}}},
    },
]


@pytest.mark.parametrize("schema", _GOOD)
def test_a_good_schema_stays_as_it_is_to_the_byte(schema: Schema) -> None:
    assert json.dumps(shown(schema)) == json.dumps(schema)


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"type": "object", "properties": None}])
def test_a_schema_without_properties_gets_them(schema: Schema) -> None:
    assert shown(schema) == {"type": "object", "properties": {}}


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_the_properties_of_all_branches_are_shown(keyword: str) -> None:
    schema = {
        "type": "object",
        "properties": {"both": {"type": "boolean"}},
        keyword: [
            {"properties": {"id": {"type": "string"}}, "required": ["both", "id"]},
            {"properties": {"name": {"type": "string"}}, "required": ["name", "both"]},
        ],
    }

    assert shown(schema) == {
        "type": "object",
        "properties": {
            "both": {"type": "boolean"},
            "id": {"type": "string"},
            "name": {"type": "string"},
        },
        "required": ["both"],
    }


def test_what_all_branches_demand_together_is_required() -> None:
    schema = {
        "allOf": [
            {"$ref": "#/definitions/Base"},
            {"properties": {"b": {"type": "string"}}, "required": ["b"]},
        ],
        "required": ["a"],
        "definitions": {"Base": {"properties": {"a": {"type": "integer"}}}},
    }

    fitted = shown(schema)

    assert fitted["properties"] == {"a": {"type": "integer"}, "b": {"type": "string"}}
    assert sorted(fitted["required"]) == ["a", "b"]


def test_branches_that_are_told_apart_by_a_word_list_the_words() -> None:
    def branch(word: str, name: str) -> Schema:
        return {
            "type": "object",
            "properties": {"kind": {"type": "string", "const": word}, name: {"type": "string"}},
            "required": ["kind", name],
            "additionalProperties": False,
        }

    fitted = shown({"type": "object", "oneOf": [branch("file", "path"), branch("web", "url")]})

    assert fitted == {
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["file", "web"]},
            "path": {"type": "string"},
            "url": {"type": "string"},
        },
        "required": ["kind"],
    }


def test_branches_that_describe_a_property_differently_allow_each_of_them() -> None:
    fitted = shown(
        {
            "type": "object",
            "anyOf": [
                {"properties": {"a": {"type": "string"}}},
                {"properties": {"a": {"type": "integer"}}},
                {"type": "null"},
            ],
        }
    )

    assert fitted["properties"] == {"a": {"anyOf": [{"type": "string"}, {"type": "integer"}]}}


_CONDITIONS: list[tuple[Schema, list[str]]] = [
    ({"if": {"required": ["a"]}, "then": {"properties": {"b": {}}}}, ["a", "b"]),
    ({"else": {"properties": {"c": {}}}}, ["a", "c"]),
    ({"dependentSchemas": {"a": {"properties": {"b": {}}}}}, ["a", "b"]),
    ({"dependencies": {"a": {"properties": {"b": {}}}}}, ["a", "b"]),
    ({"not": {"required": ["a"]}}, ["a"]),
    ({"enum": [{"a": 1}]}, ["a"]),
    ({"$ref": "#/$defs/X", "$defs": {"X": {"properties": {"b": {}}}}}, ["a", "b"]),
    ({"anyOf": [{"oneOf": [{"properties": {"b": {}}}, {}]}, True]}, ["a", "b"]),
]


@pytest.mark.parametrize(("more", "names"), _CONDITIONS)
def test_conditions_at_the_top_add_their_properties(more: Schema, names: list[str]) -> None:
    fitted = shown({"type": "object", "properties": {"a": {}}, **more})

    assert sorted(fitted["properties"]) == names
    assert refusals(fitted, COMMON_LIMITS) == []


@pytest.mark.parametrize(
    ("malformed", "repaired"),
    [
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "str"}, {"type": "string"}),
        ({"type": "float"}, {"type": "number"}),
        ({"type": "bool"}, {"type": "boolean"}),
        ({"type": "dict"}, {"type": "object"}),
        ({"type": "any", "description": "d"}, {"description": "d"}),
        ({"type": "file"}, {}),
        ({"type": None}, {}),
        ({"type": ["str"]}, {"type": "string"}),
        ({"type": ["int", "null"]}, {"type": ["integer", "null"]}),
        ({"type": ["string", "anything"]}, {}),
        ({"type": []}, {}),
        ("integer", {"type": "integer"}),
        (True, {}),
        (None, {}),
        ([1], {}),
        ({"type": "array"}, {"type": "array", "items": {}}),
        ({"type": ["array", "null"]}, {"type": ["array", "null"], "items": {}}),
        ({"type": "array", "items": True}, {"type": "array", "items": {}}),
        (
            {"type": "array", "items": [{"type": "int"}], "additionalItems": False},
            {
                "type": "array",
                "prefixItems": [{"type": "integer"}],
                "maxItems": 1,
                "items": {},
            },
        ),
        (
            {"type": "number", "minimum": 1, "exclusiveMinimum": True},
            {"type": "number", "exclusiveMinimum": 1},
        ),
        (
            {"type": "number", "maximum": 1, "exclusiveMaximum": False},
            {"type": "number", "maximum": 1},
        ),
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        (
            {"type": "string", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        ({"type": "string", "enum": ["a", "a"]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "enum": ["a", None, 1]}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "enum": [1, 2]}, {"type": "integer", "enum": [1, 2]}),
        ({"type": "string", "enum": []}, {"type": "string"}),
        ({"type": "string", "enum": "a"}, {"type": "string", "enum": ["a"]}),
        ({"type": "string", "enum": {"a": 1}}, {"type": "string"}),
        ({"type": "string", "pattern": r"\p{L}+["}, {"type": "string"}),
        ({"type": "string", "minLength": "1", "format": 3}, {"type": "string"}),
        ({"type": "string", "required": True, "x-order": 1, "id": "#a"}, {"type": "string"}),
        ({"type": "string", "properties": {"b": {}}, "required": ["b"]}, {"type": "string"}),
        ({"description": ["d"], "$schema": "http://json-schema.org/draft-04/schema#"}, {}),
        ({"anyOf": []}, {}),
        ({"anyOf": {"type": "string"}}, {}),
        ({"anyOf": [False, {"type": "int"}]}, {"anyOf": [{"type": "integer"}]}),
        ({"additionalProperties": "string", "type": "object"}, {"type": "object"}),
        ({"$ref": "#/definitions/missing", "description": "d"}, {"description": "d"}),
        ({"$ref": "https://example.org/schema"}, {}),
        ({"$ref": 3}, {}),
    ],
)
def test_a_malformed_part_is_repaired_or_left_out(malformed: object, repaired: Schema) -> None:
    assert shown_property(malformed) == repaired


@pytest.mark.parametrize(
    ("schema", "required"),
    [
        ({"required": "a"}, ["a"]),
        ({"required": ["a", "a", 3, "unknown"]}, ["a"]),
        ({"required": True}, None),
        ({"required": {"a": True}}, None),
        ({"required": ["unknown"]}, None),
        ({"required": []}, []),
        ({"properties": {"a": {"type": "string", "required": True}}}, ["a"]),
        ({"properties": {"a": {}, "never": False}, "required": ["never"]}, None),
    ],
)
def test_only_properties_that_are_there_are_required(
    schema: Schema, required: list[str] | None
) -> None:
    assert shown({**with_property({}), **schema}).get("required") == required


_TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/definitions/Node<T>"}, "me": {"$ref": "#"}},
    "definitions": {
        "Node<T>": {
            "type": "object",
            "properties": {"nodes": {"type": "array", "items": {"$ref": "#/definitions/Node<T>"}}},
        }
    },
}


def test_references_of_any_draft_lead_to_definitions() -> None:
    fitted = shown(_TREE)

    node = fitted["properties"]["root"]["$ref"].removeprefix("#/$defs/")
    assert fitted["$defs"][node]["properties"]["nodes"]["items"] == {"$ref": f"#/$defs/{node}"}
    assert fitted["properties"]["me"] == {"$ref": "#/$defs/root"}
    assert "definitions" not in fitted


def test_references_are_put_in_where_the_provider_takes_none() -> None:
    fitted = shown(_TREE, provider_profile("google").tool_limits)

    assert fitted["properties"]["root"] == snapshot(
        {
            "type": "object",
            "properties": {"nodes": {"type": "array", "items": {}}},
        }
    )


@pytest.mark.parametrize(
    "reference",
    ["#/properties/b", "#/properties/b/", "#/%70roperties/b", "#b", "#/$defs/Mine"],
)
def test_a_reference_to_any_place_in_the_schema_is_followed(reference: str) -> None:
    mine = {"type": "string", "$anchor": "b"}
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": reference}, "b": {"type": "string"}},
        "$defs": {"Mine": mine},
    }

    target = shown(schema)["properties"]["a"]["$ref"].removeprefix("#/$defs/")

    assert shown(schema)["$defs"] == {target: {"type": "string"}}


@every_provider
def test_a_definition_that_is_only_itself_allows_anything(limits: ToolLimits) -> None:
    schema = with_property({"$ref": "#/$defs/A"})
    definitions = {"A": {"anyOf": [{"$ref": "#/$defs/B"}]}, "B": {"$ref": "#/$defs/A"}}

    assert refusals(shown({**schema, "$defs": definitions}, limits), limits) == []


def test_references_that_multiply_each_other_are_put_in_up_to_a_limit() -> None:
    definitions = {
        f"L{level}": {"properties": {side: {"$ref": f"#/$defs/L{level + 1}"} for side in "abcd"}}
        for level in range(20)
    }
    schema = {**with_property({"$ref": "#/$defs/L0"}), "$defs": definitions}

    assert len(json.dumps(shown(schema, provider_profile("google").tool_limits))) < 50_000


def _chain(length: int, link: str) -> Schema:
    definitions: Schema = {
        f"L{level}": {link: [{"$ref": f"#/$defs/L{level + 1}"}] * 2} for level in range(length)
    }
    definitions[f"L{length}"] = {"properties": {"end": [{"type": "string"}]}}
    return {"type": "object", "anyOf": [{"$ref": "#/$defs/L0"}], "$defs": definitions}


@every_provider
@pytest.mark.parametrize("link", ["anyOf", "allOf", "prefixItems"])
def test_definitions_that_lead_to_each_other_are_followed_once(
    limits: ToolLimits, link: str
) -> None:
    for length in (40, 5_000):
        assert refusals(shown(_chain(length, link), limits), limits) == []


def test_what_lies_too_deep_is_any_value() -> None:
    deep: Schema = {"type": "string"}
    for _ in range(2_000):
        deep = {"type": "array", "items": deep}

    assert json.dumps(shown_property(deep)).count('"array"') < 40


@pytest.mark.parametrize("kind", ["string", "array", ["string", "null"], "int"])
def test_a_tool_whose_arguments_are_no_object_cannot_be_shown(kind: object) -> None:
    with pytest.raises(UnfitSchemaError, match="not as an object"):
        shown({"type": kind})


NAMES = {
    "$top": "integer",
    "filter[name]": "string",
    "two words": "string",
    "名前": "string",
    "名": "string",
    "@odata.type": "string",
    "2nd": "string",
    "": "string",
    "x" * 65: "string",
}


@every_provider
def test_names_that_the_provider_refuses_are_replaced_at_any_depth(limits: ToolLimits) -> None:
    inner: Schema = {
        "type": "object",
        "properties": {name: {"type": kind} for name, kind in NAMES.items()},
        "required": ["$top"],
    }
    schema: Schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": inner}, **inner["properties"]},
        "required": ["two words", "list"],
    }

    fitted = fit_schema(schema, limits)

    assert refusals(fitted.schema, limits) == []
    own = fitted.own_names
    assert [own.get(name, name) for name in fitted.schema["required"]] == ["two words", "list"]
    assert {own.get(name, name) for name in fitted.schema["properties"]} == {*NAMES, "list"}


def test_a_property_with_another_name_says_what_it_is_called() -> None:
    schema = {"properties": {"$top": {"type": "integer", "description": "How many."}, "$skip": {}}}

    assert shown(schema)["properties"] == snapshot(
        {
            "top_81bf98e4": {"type": "integer", "description": "`$top`: How many."},
            "skip_cefc4aff": {"description": "`$skip`"},
        }
    )


def test_arguments_come_back_with_the_names_of_the_tool() -> None:
    own = fit_schema(
        {"properties": {"$top": {}, "a b": {"properties": {"c d": {}}}}}, COMMON_LIMITS
    )
    sent = {name: replacement for replacement, name in own.own_names.items()}
    arguments: Schema = {"$top": 1, "a b": [{"c d": "$top", "e f": {}}], "free": {"$top": None}}

    replaced = replace_names(arguments, sent)

    assert set(replaced) == {sent["$top"], sent["a b"], "free"}
    assert replace_names(replaced, own.own_names) == arguments


def test_dots_stay_where_the_provider_takes_them() -> None:
    schema: Schema = {"type": "object", "properties": {"a.b": {}}}

    assert shown(schema, provider_profile("anthropic").tool_limits) == schema
    assert "a.b" not in shown(schema)["properties"]


def test_choices_are_texts_and_numbers_where_the_provider_takes_no_others() -> None:
    limits = provider_profile("google").tool_limits

    assert shown_property({"enum": ["", "a", True, None, 2]}, limits) == {"enum": ["a", 2]}
    assert shown_property({"type": "boolean", "const": True}, limits) == {"type": "boolean"}
    assert shown_property({"const": "a"}, limits) == {"enum": ["a"]}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "string", "#", "["]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "$b", "type", "id"]), inner, max_size=3)
    ),
    max_leaves=5,
)
keywords = st.sampled_from(
    [
        *("type", "properties", "required", "items", "prefixItems", "enum", "const", "nullable"),
        *("anyOf", "oneOf", "allOf", "not", "if", "then", "else", "additionalProperties"),
        *("patternProperties", "dependencies", "dependentRequired", "dependentSchemas"),
        *("exclusiveMinimum", "minimum", "minLength", "pattern", "format", "default", "title"),
        *("$ref", "$defs", "definitions", "$schema", "$id", "$anchor", "propertyNames"),
        *("additionalItems", "uniqueItems", "description", "x-any", "unevaluatedProperties"),
    ]
)
kinds = st.sampled_from(["object", "array", "string", "int", "number", "any", ["array", "null"]])
references = st.sampled_from(["#", "#/$defs/a", "#/definitions/a", "#/properties/a", "#a", "x"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    tables = st.dictionaries(st.sampled_from(["a", "b", "$c", "d e"]), inner, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": kinds,
            "properties": tables,
            "required": st.lists(st.sampled_from(["a", "b", "$c"]), max_size=2),
            "items": inner | st.lists(inner, max_size=2),
            "anyOf": st.lists(inner, max_size=3),
            "oneOf": st.lists(inner, max_size=3),
            "allOf": st.lists(inner, max_size=3),
            "enum": st.lists(json_values, max_size=3),
            "$ref": references,
            "$defs": tables,
            "nullable": st.booleans(),
            "then": inner,
        },
    )


wild_schemas = st.dictionaries(keywords, json_values, max_size=5)
plausible_schemas = st.recursive(st.booleans() | wild_schemas, _schemas, max_leaves=12)


@given(
    schema=plausible_schemas.filter(lambda each: isinstance(each, dict)),
    name=st.sampled_from(sorted(LIMITS)),
)
def test_whatever_a_server_sends_is_taken_or_left_out(schema: Schema, name: Any) -> None:
    limits = LIMITS[name]
    before = json.dumps(schema)
    try:
        fitted = shown(schema, limits)
    except UnfitSchemaError:
        return

    assert refusals(fitted, limits) == []
    assert json.dumps(schema) == before
    assert json.dumps(shown(json.loads(before), limits)) == json.dumps(fitted)
