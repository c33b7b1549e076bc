"""The JSON Schema that editors use agrees with what the loader accepts."""

import json
from copy import deepcopy
from typing import Any

import jsonschema
import pytest
import tomli

from perstack.definition.editor_schema import SCHEMA_FILE, build_editor_schema, render_editor_schema

SAMPLE = """
model = "claude-sonnet-4-5"
reasoningBudget = "medium"
maxSteps = 50
envPath = [".env"]

[provider]
providerName = "anthropic"
setting = { headers = { "X-Team" = "qa" } }

[experts."reviewer"]
version = "1.2.0"
instruction = "Review the directory."
delegates = ["@reviewer/file"]
tags = ["stable"]
defaultModelTier = "high"

[experts."reviewer".skills."@perstack/base"]
type = "mcpStdioSkill"
command = "npx"
packageName = "@perstack/base"
pick = ["readTextFile"]

[experts."reviewer".skills."remote"]
type = "mcpSseSkill"
endpoint = "https://example.com/mcp"

[experts."reviewer".skills."ask"]
type = "interactiveSkill"
[experts."reviewer".skills."ask".tools."askUser"]
inputJsonSchema = '{"type":"object"}'
answerJsonSchema = '{"type":"object","properties":{"sure":{"type":"boolean"}}}'

[experts."@reviewer/file"]
instruction = "Check the file."
"""


def is_valid(document: dict[str, Any]) -> bool:
    return jsonschema.Draft7Validator(build_editor_schema()).is_valid(document)  # pyright: ignore[reportUnknownMemberType] - jsonschema ships no types


def sample() -> dict[str, Any]:
    return tomli.loads(SAMPLE)


def test_the_committed_schema_is_the_generated_one() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == render_editor_schema()


def test_the_schema_is_a_schema_itself() -> None:
    jsonschema.Draft7Validator.check_schema(json.loads(render_editor_schema()))


def test_a_file_that_uses_everything_is_valid() -> None:
    assert is_valid(sample())


def test_an_empty_file_is_valid() -> None:
    assert is_valid({})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("maxStep",), 5),
        (("maxSteps",), 0),
        (("maxSteps",), "50"),
        (("reasoningBudget",), "huge"),
        (("provider", "providername"), "anthropic"),
        (("provider", "providerName"), "antropic"),
        (("provider", "setting", "baseURL"), "https://example.com"),
        (("experts", "reviewer", "delegate"), []),
        (("experts", "reviewer", "version"), "1.2"),
        (("experts", "reviewer", "delegates"), ["Not A Name"]),
        (("experts", "reviewer", "skills", "remote", "type"), "mcpHttpSkill"),
        (("experts", "reviewer", "skills", "remote", "endPoint"), "https://example.com"),
        (("experts", "reviewer", "skills", "remote", "command"), "npx"),
        (("experts", "reviewer", "skills", "ask", "tools", "askUser", "schema"), "{}"),
        (("experts", "Not A Name"), {"instruction": "Do it."}),
    ],
)
def test_a_mistake_is_shown_in_the_editor(path: tuple[str, ...], value: object) -> None:
    document = deepcopy(sample())
    here = document
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    assert not is_valid(document)


def test_an_expert_without_an_instruction_is_shown_in_the_editor() -> None:
    document = sample()
    del document["experts"]["reviewer"]["instruction"]
    assert not is_valid(document)
