"""Which tools an expert is shown, and under which names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from perstack import __version__
from perstack.core.tools import ToolDefinition
from perstack.definition.model import InteractiveSkill, InteractiveTool, McpStdioSkill
from perstack.errors import SkillError
from perstack.skills.tool_catalog import ToolCatalog
from tests.skills.harness import Recorder, call, expert, opened, plain

pytestmark = pytest.mark.anyio

PROVIDERS_TAKE = re.compile(r"[a-zA-Z0-9_-]{1,64}")


async def test_the_base_skill_comes_first_and_needs_no_process(tmp_path: Path) -> None:
    tester, told = expert(plain=plain(pick=("echo",))), Recorder()
    (tmp_path / "note.txt").write_text("hello", encoding="utf-8")

    async with opened(tmp_path) as skills:
        tools = await skills.tools(tester, told)
        read = call("readTextFile", "@perstack/base", path="note.txt")
        result = await skills.call(tester, read, "key")

    assert tools[0].skill_name == "@perstack/base"
    assert "readTextFile" in [tool.name for tool in tools]
    assert tools[-1].name == "echo"
    assert "hello" in result.text
    assert [event[1] for event in told.of("starting")] == ["plain"]


async def test_each_run_is_told_that_the_base_skill_is_ready(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    async with opened(tmp_path) as skills:
        await skills.tools(expert("one"), first)
        await skills.tools(expert("two"), second)
    info = {"name": "@perstack/base", "version": __version__}
    for told in (first, second):
        assert [event[:3] for event in told.built_in] == [("connected", "@perstack/base", info)]


async def test_all_pages_of_tools_are_read(tmp_path: Path) -> None:
    async with opened(tmp_path) as skills:
        whole = await skills.tools(expert("whole", plain=plain()), Recorder())
        paged = await skills.tools(expert("paged", plain=plain("page=3")), Recorder())

    assert paged == whole


async def test_a_list_without_end_is_cut_off(tmp_path: Path) -> None:
    told = Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(expert(plain=plain("endless")), told)

    assert "its list of tools has more than 1000 pages" in told.lines()


async def test_a_server_without_tools_adds_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as skills:
        tools = await skills.tools(expert(plain=plain("toolless")), Recorder())

    assert {tool.skill_name for tool in tools} == {"@perstack/base"}


async def test_omit_comes_before_pick_and_unknown_names_are_told(tmp_path: Path) -> None:
    skill = plain(pick=("echo", "pid", "ehco"), omit=("pid",))
    tester, told = expert(plain=skill), Recorder()

    async with opened(tmp_path) as skills:
        tools = await skills.tools(tester, told)
        omitted = await skills.call(tester, call("pid"), "key")

    assert [tool.name for tool in tools if tool.skill_name == "plain"] == ["echo"]
    assert "`pick` names 'ehco'" in told.lines()
    assert "it offers 'echo', 'look'" in told.lines()
    assert omitted.is_error


async def test_annotations_say_what_may_be_repeated(tmp_path: Path) -> None:
    skill = plain(pick=("echo", "look", "put"))

    async with opened(tmp_path) as skills:
        tools = await skills.tools(expert(plain=skill), Recorder())

    flags = {tool.name: (tool.is_read_only, tool.is_repeatable) for tool in tools[-3:]}
    assert flags == {"echo": (False, False), "look": (True, True), "put": (False, True)}


async def test_a_name_that_is_taken_gets_the_skills_before_it(tmp_path: Path) -> None:
    tester = expert(
        skills={
            "plain": plain(pick=("echo",)),
            "the other": plain("name=other", pick=("echo", "dotted.näme")),
        }
    )

    async with opened(tmp_path) as skills:
        tools = await skills.tools(tester, Recorder())
        second = await skills.call(tester, call("the_other_echo", "the other", text="2"), "key")
        dotted = await skills.call(tester, call("dotted_n_me", "the other"), "key")

    names = [tool.name for tool in tools[-3:]]
    assert names == ["echo", "the_other_echo", "dotted_n_me"]
    assert tools[-1].description == "Dotted"
    assert (second.text, second.tool_name) == ("2", "the_other_echo")
    assert dotted.text == "dotted.näme done"


async def test_a_tool_of_a_server_yields_its_name_to_delegates_and_questions(
    tmp_path: Path,
) -> None:
    ask = InteractiveTool(description="Asks.", input_json_schema='{"type": "object"}')
    tester = expert(
        plain=plain(pick=("echo", "look")),
        people=InteractiveSkill(type="interactiveSkill", tools={"look": ask}),
    ).model_copy(update={"delegates": ("echo", "@tester/exec")})

    async with opened(tmp_path) as skills:
        tools = await skills.tools(tester, Recorder())
        result = await skills.call(tester, call("plain_echo", text="1"), "key")

    assert [tool.name for tool in tools[-3:]] == ["plain_echo", "plain_look", "look"]
    assert (result.text, result.tool_name) == ("1", "plain_echo")


async def test_interactive_tools_are_shown_but_need_no_server(tmp_path: Path) -> None:
    schema = '{"type": "object", "properties": {"question": {"type": "string"}}}'
    ask = InteractiveSkill(
        type="interactiveSkill",
        tools={"ask": InteractiveTool(description="Asks.", input_json_schema=schema)},
    )

    async with opened(tmp_path) as skills:
        tools = await skills.tools(expert(people=ask), Recorder())

    assert tools[-1] == ToolDefinition(
        skill_name="people",
        name="ask",
        description="Asks.",
        input_schema={"type": "object", "properties": {"question": {"type": "string"}}},
        kind="interactive",
    )


async def test_a_pinned_base_skill_without_its_command_falls_back_to_the_built_in_one(
    tmp_path: Path,
) -> None:
    pinned = McpStdioSkill(
        type="mcpStdioSkill", command="npx", package_name="@perstack/base@0.0.54"
    )
    tester, told = expert(skills={"@perstack/base": pinned}), Recorder()

    async with opened(tmp_path, {"PATH": str(tmp_path)}) as skills:
        tools = await skills.tools(tester, told)

    assert "readTextFile" in [tool.name for tool in tools]
    assert "npx was not found" in told.lines()


async def test_a_workspace_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path / "absent") as skills:
        with pytest.raises(SkillError, match="absent cannot be used"):
            await skills.tools(expert(), Recorder())


@given(some.lists(some.tuples(some.text(min_size=1), some.lists(some.text(min_size=1)))))
def test_names_are_unique_acceptable_and_lead_back(skills: list[tuple[str, list[str]]]) -> None:
    surface = ToolCatalog()
    offered = {skill: sorted(set(tools)) for skill, tools in skills}

    for skill, tools in offered.items():
        surface.add(skill, [ToolDefinition(skill, tool, "", {}) for tool in tools])

    names = [tool.name for tool in surface.definitions]
    assert len(set(names)) == len(names)
    assert all(PROVIDERS_TAKE.fullmatch(name) for name in names)
    led_back = [
        (tool.skill_name, surface.original_names[tool.skill_name, tool.name])
        for tool in surface.definitions
    ]
    assert led_back == [(skill, tool) for skill, tools in offered.items() for tool in tools]


PROGRAM = """
import sys, anyio
from pathlib import Path
from tests.skills.harness import Recorder, expert, opened

async def main():
    async with opened(Path.cwd()) as skills:
        await skills.tools(expert(), Recorder())

anyio.run(main)
sys.exit("mcp" in sys.modules)
"""


def test_an_expert_with_the_base_skill_alone_does_not_load_the_protocol(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, check=False
    )

    assert done.returncode == 0
