"""The system prompt and descriptions of tools name those that the expert has, and no others."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.definition.model import Expert, McpStdioSkill
from perstack.definition.references import BASE_SKILL, DEFAULT_TOOL_NAMES
from perstack.runtime.prompt import WorkspaceInfo, instruction_message
from perstack.skills.builtin.skill import DEFINITIONS_BY_NAME, select_definitions
from tests.fakes import FakeModel, done, experts, job_context, says
from tests.runtime.acting import work

pytestmark = pytest.mark.anyio

ALL = tuple(DEFINITIONS_BY_NAME)
NAMES = re.compile(rf"\b({'|'.join(ALL)})s?\b")


def expert(key: str = "a", pick: tuple[str, ...] = (), omit: tuple[str, ...] = ()) -> Expert:
    skill = McpStdioSkill(
        type="mcpStdioSkill", package_name=BASE_SKILL, command="npx", pick=pick, omit=omit
    )
    declared = experts(a=("a_x",), a_x=()).experts[key]
    return declared.model_copy(update={"skills": {BASE_SKILL: skill}})


def prompt(of: Expert) -> str:
    return instruction_message(of, WorkspaceInfo(Path("/w")), 0).stable


def named(text: str) -> set[str]:
    return set(NAMES.findall(text))


@given(st.sets(st.sampled_from(ALL), min_size=1), st.sampled_from(["a", "@a/x"]))
def test_what_is_not_picked_is_not_named(picked: set[str], key: str) -> None:
    pick = tuple(sorted(picked))

    assert named(prompt(expert(key, pick=pick))) <= picked
    for tool in select_definitions(pick):
        assert named(tool.description) <= picked
        assert tool.description.endswith(".")


@given(st.sets(st.sampled_from(DEFAULT_TOOL_NAMES)), st.sampled_from(["a", "@a/x"]))
def test_what_is_omitted_is_not_named(omitted: set[str], key: str) -> None:
    omit = tuple(sorted(omitted))

    assert not named(prompt(expert(key, omit=omit))) & omitted
    for tool in select_definitions((), omit):
        assert not named(tool.description) & omitted


def test_an_expert_with_the_usual_tools_is_told_to_use_them() -> None:
    text = prompt(expert())

    assert {"todo", "attemptCompletion"} <= named(text)
    assert "by reading the file or running" in text
    assert "Remove intermediate files" in text


def test_a_coordinator_without_files_is_not_told_to_handle_them() -> None:
    text = prompt(expert(pick=("attemptCompletion",)))

    assert "Check the result yourself before you rely on it." in text
    for order in ("reading the file", "Exchange larger material", "Remove intermediate"):
        assert order not in text


@pytest.mark.parametrize("key", ["a", "@a/x"])
def test_an_expert_that_cannot_complete_by_a_call_is_told_to_answer(key: str) -> None:
    text = prompt(expert(key, omit=("attemptCompletion",)))

    assert "reply with the whole answer and call no tool" in text


@pytest.mark.parametrize(
    ("omit", "expected"),
    [
        ((), "Call a tool, or attemptCompletion"),
        (("attemptCompletion",), "or say what your"),
    ],
)
async def test_an_empty_reply_is_answered_with_what_the_expert_can_do(
    omit: tuple[str, ...], expected: str
) -> None:
    definitions = experts(a=())
    alone = expert(omit=omit).model_copy(update={"delegates": ()})
    definitions = definitions.model_copy(update={"experts": {"a": alone}})
    model = FakeModel({"a": [says(""), done("ok")]})

    await work(job_context(definitions, model))

    assert expected in str(model.requests[-1].messages[-1])
