"""What clients are shown: the tools, their schemas, and what their experts can do to the world."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from perstack.definition.model import (
    Definitions,
    Expert,
    InteractiveSkill,
    InteractiveTool,
    McpSseSkill,
    McpStdioSkill,
)
from perstack.definition.references import BASE_SKILL
from perstack.definition.verification import Verification
from perstack.server.tools import schemas
from perstack.server.tools.definitions import (
    ALL_CAPABILITIES,
    EFFECT_OF_BASE_TOOL,
    NO_CAPABILITIES,
    ToolCapabilities,
    capabilities,
    instructions,
    published_experts,
)
from perstack.skills.builtin.skill import DEFINITIONS_BY_NAME
from tests.fakes import FakeModel
from tests.server.harness import Mode, stage

anyio_test = pytest.mark.anyio


@anyio_test
async def test_coordinators_are_tools_with_their_key_and_version(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        tools = (await here.client.list_tools()).tools
    assert [tool.name for tool in tools] == [
        "reviewer",
        "writer",
        "perstack_job",
        "perstack_jobs",
        "perstack_cancel",
    ]
    reviewer = tools[0]
    assert reviewer.title == "reviewer"
    assert reviewer.meta == {
        "perstack/expert": "reviewer",
        "perstack/version": "2.1.0",
        "anthropic/maxResultSizeChars": 200_000,
    }
    assert reviewer.description is not None
    assert reviewer.description.startswith("Reviews files.\n")
    assert reviewer.input_schema["additionalProperties"] is False
    assert tools[1].description is not None
    assert tools[1].description.startswith("Asks the expert writer.")


@anyio_test
async def test_delegates_are_tools_on_request_and_job_tools_can_be_left_out(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(tmp_path, mode, FakeModel({}), publish="all", has_job_tools=False) as here:
        tools = (await here.client.list_tools()).tools
        description = tools[0].description or ""
        guide = here.client.instructions or ""
    assert [(tool.name, tool.title) for tool in tools] == [
        ("reviewer", "reviewer"),
        ("reviewer__file", "@reviewer/file"),
        ("writer", "writer"),
    ]
    assert "perstack_job" not in description + guide
    assert "empty query" in description


@anyio_test
async def test_the_server_says_how_to_use_it(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        assert here.client.instructions == instructions(has_job_tools=True)
        assert here.client.server_info is not None
        assert here.client.server_info.name == "perstack"
        assert here.client.server_capabilities.tools is not None
        assert here.client.server_capabilities.resources is not None


@anyio_test
async def test_looking_after_jobs_is_harmless(tmp_path: Path, mode: Mode) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        tools = {tool.name: tool for tool in (await here.client.list_tools()).tools}
    hints = {
        name: (note.read_only_hint, note.destructive_hint, note.idempotent_hint)
        for name, tool in tools.items()
        if (note := tool.annotations) is not None
    }
    assert hints["perstack_job"] == (True, False, True)
    assert hints["perstack_jobs"] == (True, False, True)
    assert hints["perstack_cancel"] == (False, False, True)
    assert hints["writer"] == (False, True, False)


def test_an_expert_named_like_a_tool_of_ours_gets_a_name_of_its_own() -> None:
    definitions = team(expert("perstack_job"), expert("perstack_jobs"))
    names = list(published_experts(definitions, "coordinators"))
    assert len(names) == 2
    assert not {"perstack_job", "perstack_jobs"} & set(names)


@pytest.mark.parametrize(
    "schema",
    [
        schemas.expert_input(45),
        schemas.job_input(45),
        schemas.JOBS_INPUT,
        schemas.CANCEL_INPUT,
        schemas.RESULT_OUTPUT,
        schemas.JOBS_OUTPUT,
    ],
)
def test_schemas_are_valid_and_plain(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert not any(word in str(schema) for word in ("$ref", "anyOf", "oneOf", "allOf", "null"))


def expert(key: str, **fields: Any) -> Expert:
    return Expert(key=key, instruction="Work.", **fields)


def team(*experts: Expert, **fields: Any) -> Definitions:
    return Definitions(experts={each.key: each for each in experts}, **fields)


def base(*pick: str, omit: tuple[str, ...] = (), package: str = BASE_SKILL) -> dict[str, Any]:
    skill = McpStdioSkill(
        type="mcpStdioSkill", command="npx", package_name=package, pick=pick, omit=omit
    )
    return {BASE_SKILL: skill}


STDIO = McpStdioSkill(type="mcpStdioSkill", command="some-server", args=("-v",))
REMOTE = McpSseSkill(type="mcpSseSkill", endpoint="https://mcp.example.com/mcp")
ASK = InteractiveSkill(type="interactiveSkill", tools={"ask": InteractiveTool()})

READING = base("readTextFile", "todo", "attemptCompletion")
WRITING = base("writeTextFile")
ADDING = base("createDirectory", "readTextFile")


@pytest.mark.parametrize(
    ("skills", "expected"),
    [
        ({}, ALL_CAPABILITIES),
        (READING, NO_CAPABILITIES),
        ({**READING, "ask": ASK}, NO_CAPABILITIES),
        ({**READING, "other": STDIO}, ALL_CAPABILITIES),
        ({**READING, "other": REMOTE}, ALL_CAPABILITIES),
        (WRITING, ToolCapabilities(is_read_only=False, is_destructive=True)),
        (ADDING, ToolCapabilities(is_read_only=False)),
        (base(omit=("exec", "writeTextFile", "editTextFile")), NO_CAPABILITIES),
        (base("exec"), ALL_CAPABILITIES),
        (base("readTextFile", "exec", omit=("exec",)), NO_CAPABILITIES),
        (base("readTextFile", package="@perstack/base@1.2.3"), ALL_CAPABILITIES),
        (base("noSuchTool"), NO_CAPABILITIES),
    ],
)
def test_an_expert_can_do_what_its_skills_can(
    skills: dict[str, Any], expected: ToolCapabilities
) -> None:
    one = expert("one", skills=skills)
    assert capabilities(one, team(one)) == expected


def test_an_expert_can_do_what_its_delegates_can_however_deep_and_in_circles() -> None:
    one = expert("one", skills=READING, delegates=("two",))
    two = expert("two", skills=READING, delegates=("three", "one"))
    three = expert("three", skills=WRITING)
    everyone = team(one, two, three)
    assert capabilities(one, everyone) == ToolCapabilities(is_read_only=False, is_destructive=True)
    assert capabilities(three, everyone) == ToolCapabilities(
        is_read_only=False, is_destructive=True
    )
    assert capabilities(one, team(one)) == ALL_CAPABILITIES


def test_tools_of_the_provider_count() -> None:
    searching = expert("one", skills=READING, provider_tools=("webSearch",))
    computing = expert("two", skills=READING, provider_tools=("codeExecution",))
    everyone = team(searching, computing)
    assert capabilities(searching, everyone) == ToolCapabilities(is_open_world=True)
    assert capabilities(computing, everyone) == ALL_CAPABILITIES


def test_a_base_skill_from_elsewhere_can_do_anything() -> None:
    one = expert("one", skills=READING)
    assert (
        capabilities(one, team(one, perstack_base_skill_command=("other", "base")))
        == ALL_CAPABILITIES
    )


def test_what_is_said_of_the_base_tools_is_what_they_say_of_themselves() -> None:
    assert set(EFFECT_OF_BASE_TOOL) == set(DEFINITIONS_BY_NAME)
    reading = {name for name, effect in EFFECT_OF_BASE_TOOL.items() if effect == "reads"}
    assert reading == {name for name, tool in DEFINITIONS_BY_NAME.items() if tool.is_read_only}


def test_a_command_that_verifies_is_a_command_like_any_other() -> None:
    command = Verification(name="tests", command=("pytest",))
    schema = Verification(name="answer", json_schema={"type": "object"})
    one = expert("one", skills=READING, verifications=(schema, command))
    two = expert("two", skills=READING, verifications=(schema,))
    assert capabilities(one, team(one)) == ALL_CAPABILITIES
    assert capabilities(two, team(two)) == NO_CAPABILITIES
