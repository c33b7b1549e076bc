"""How the base skill's tools are shown to a model, and how it is told of wrong arguments."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from perstack.core.long_results import READ_TOOL_RESULT
from perstack.core.messages import ToolCall
from perstack.definition.references import BASE_SKILL
from perstack.runtime.control import CONTROL_TOOLS
from perstack.skills.builtin.control import DEFINITIONS as CONTROL_DEFINITIONS
from perstack.skills.builtin.skill import DEFINITIONS_BY_NAME, TOOLS_BY_NAME, BuiltInSkill
from tests.skills.builtin.calling import ask, ask_with, facts_of, refused

pytestmark = pytest.mark.anyio

ALL_TOOLS = {
    "attemptCompletion",
    "todo",
    "clearTodo",
    "readToolResult",
    "healthCheck",
    "exec",
    "globFiles",
    "grepFiles",
    "readTextFile",
    "readImageFile",
    "readPdfFile",
    "writeTextFile",
    "appendTextFile",
    "editTextFile",
    "moveFile",
    "deleteFile",
    "getFileInfo",
    "listDirectory",
    "createDirectory",
    "deleteDirectory",
}

TOOLS_OF_THE_RUN = CONTROL_TOOLS | {READ_TOOL_RESULT}


def names(skill: BuiltInSkill, pick: tuple[str, ...] = (), omit: tuple[str, ...] = ()) -> list[str]:
    return [tool.name for tool in skill.definitions(pick, omit)]


def test_twelve_tools_are_shown_unless_the_expert_picks(skill: BuiltInSkill) -> None:
    assert names(skill) == [
        "attemptCompletion",
        "todo",
        "clearTodo",
        "readToolResult",
        "exec",
        "globFiles",
        "grepFiles",
        "readTextFile",
        "readImageFile",
        "readPdfFile",
        "writeTextFile",
        "editTextFile",
    ]


def test_an_expert_may_pick_any_of_twenty_tools(skill: BuiltInSkill) -> None:
    assert set(names(skill, pick=tuple(ALL_TOOLS))) == ALL_TOOLS
    assert set(DEFINITIONS_BY_NAME) == ALL_TOOLS


def test_what_is_omitted_is_not_shown_even_if_it_is_picked(skill: BuiltInSkill) -> None:
    assert "exec" not in names(skill, omit=("exec",))
    assert names(skill, pick=("exec", "listDirectory"), omit=("exec",)) == ["listDirectory"]


def test_picking_a_tool_that_does_not_exist_shows_nothing_for_it(skill: BuiltInSkill) -> None:
    assert names(skill, pick=("think", "readTextFile")) == ["readTextFile"]


@pytest.mark.parametrize("name", sorted(ALL_TOOLS))
def test_a_schema_is_valid_closed_and_described(name: str) -> None:
    tool = DEFINITIONS_BY_NAME[name]

    Draft202012Validator.check_schema(tool.input_schema)
    assert tool.skill_name == BASE_SKILL
    assert tool.input_schema["additionalProperties"] is False
    assert tool.description.endswith(".")
    for field in tool.input_schema["properties"].values():
        assert field["description"]


@pytest.mark.parametrize("name", sorted(TOOLS_BY_NAME))
def test_a_schema_says_what_the_check_of_the_arguments_demands(name: str) -> None:
    schema = TOOLS_BY_NAME[name].definition.input_schema
    fields = TOOLS_BY_NAME[name].arguments.model_fields

    checked = {field.alias or key: field.is_required() for key, field in fields.items()}

    assert set(checked) == set(schema["properties"])
    assert {key for key, is_required in checked.items() if is_required} == set(
        schema.get("required", ())
    )


def test_tools_that_change_something_do_not_claim_to_read_only() -> None:
    read_only = {name for name, tool in DEFINITIONS_BY_NAME.items() if tool.is_read_only}
    repeatable = {name for name, tool in DEFINITIONS_BY_NAME.items() if tool.is_repeatable}

    assert read_only == {
        "attemptCompletion",
        "todo",
        "clearTodo",
        "readToolResult",
        "healthCheck",
        "globFiles",
        "grepFiles",
        "readTextFile",
        "readImageFile",
        "readPdfFile",
        "getFileInfo",
        "listDirectory",
    }
    assert repeatable == read_only | {"writeTextFile"}


def test_the_tools_of_the_run_are_the_ones_defined_without_an_answer_here() -> None:
    assert {tool.name for tool in CONTROL_DEFINITIONS} == TOOLS_OF_THE_RUN
    assert set(TOOLS_BY_NAME) == ALL_TOOLS - TOOLS_OF_THE_RUN


@pytest.mark.parametrize("name", sorted(TOOLS_OF_THE_RUN))
async def test_a_tool_of_the_run_is_not_answered_here(skill: BuiltInSkill, name: str) -> None:
    facts = await refused(skill, name)

    assert facts["error"] == "UnknownTool"
    assert "answered by the run" in facts["message"]


async def test_an_unknown_tool_is_answered_with_the_tools_there_are(skill: BuiltInSkill) -> None:
    facts = await refused(skill, "readTextFiles")

    assert facts["error"] == "UnknownTool"
    assert "readTextFile" in facts["message"]


@pytest.mark.parametrize(
    ("tool", "args", "field"),
    [
        ("readTextFile", {}, "path"),
        ("readTextFile", {"path": ""}, "path"),
        ("readTextFile", {"path": "a\0b"}, "path"),
        ("readTextFile", {"path": "\ud800"}, "path"),
        ("readTextFile", {"path": "a.txt", "from": -1}, "from"),
        ("readTextFile", {"path": "a.txt", "from": 5, "to": 2}, "`to`"),
        ("readTextFile", {"path": "a.txt", "lines": 3}, "lines"),
        ("writeTextFile", {"path": "a.txt"}, "text"),
        ("writeTextFile", {"path": "a.txt", "text": {"a": 1}}, "text"),
        ("writeTextFile", {"path": "a.txt", "text": "\ud800"}, "text"),
        ("editTextFile", {"path": "a.txt", "oldText": "", "newText": "b"}, "oldText"),
        ("moveFile", {"source": "a.txt"}, "destination"),
        ("deleteDirectory", {"path": "a", "recursive": "perhaps"}, "recursive"),
        ("exec", {"args": ["-l"]}, "command"),
        ("exec", {"command": "ls", "args": {"l": True}}, "args"),
        ("exec", {"command": "ls", "args": ["a\0b"]}, "args.0"),
        ("exec", {"command": "ls", "env": {"A=B": "c"}}, "env"),
        ("exec", {"command": "ls", "timeout": 0}, "timeout"),
        ("globFiles", {"pattern": ""}, "pattern"),
        ("globFiles", {"path": "src"}, "pattern"),
        ("globFiles", {"pattern": "[z-a]"}, "range"),
        ("grepFiles", {"pattern": "foo("}, "unclosed group"),
        ("grepFiles", {"pattern": "(?=a)"}, "look-around"),
        ("grepFiles", {"pattern": "(.{1,100}){1,100}"}, "repeats too much"),
        ("grepFiles", {"pattern": "a", "glob": "{a,[z-a]}"}, "range"),
        ("healthCheck", {"verbose": True}, "verbose"),
    ],
)
async def test_a_wrong_argument_is_named(
    skill: BuiltInSkill, tool: str, args: dict[str, Any], field: str
) -> None:
    result = await ask_with(skill, tool, args)

    assert result.is_error
    facts = facts_of(result)
    assert facts["error"] == "InvalidArguments"
    assert field in facts["message"]


async def test_arguments_that_could_not_be_read_are_an_error_result(skill: BuiltInSkill) -> None:
    call = ToolCall(
        id="call-1", skill_name=BASE_SKILL, tool_name="exec", args_error="it ends too early"
    )

    result = await skill.call(call)

    assert result.is_error
    assert facts_of(result)["message"] == "it ends too early"


async def test_a_result_carries_the_identity_of_its_call(skill: BuiltInSkill) -> None:
    result = await ask(skill, "healthCheck")

    assert (result.id, result.skill_name, result.tool_name) == ("call-1", BASE_SKILL, "healthCheck")


async def test_health_is_told_with_the_uptime_of_the_skill(workspace: Path) -> None:
    ticks = iter([100.0, 142.9])
    skill = BuiltInSkill(workspace, {}, monotonic=lambda: next(ticks))

    facts = facts_of(await ask(skill, "healthCheck"))

    assert facts["status"] == "ok"
    assert facts["workspace"] == str(workspace.resolve())
    assert facts["uptime"] == "42s"
    assert facts["memory"]["heapUsed"].endswith("MB")
    assert facts["memory"]["heapTotal"].endswith("MB")
    assert facts["pid"] > 0
