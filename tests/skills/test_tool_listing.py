"""Which tools of a server are used, whatever else its list holds."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from perstack.definition.model import McpStdioSkill
from perstack.errors import SkillError
from tests.skills.harness import SERVERS, Recorder, call, expert, opened

pytestmark = pytest.mark.anyio

LOOK = {"name": "look", "inputSchema": {"type": "object"}}
RAW = McpStdioSkill(
    type="mcpStdioSkill", command=sys.executable, args=("-S", "-E", str(SERVERS / "raw.py"))
)


async def listed(workspace: Path, **facts: Any) -> tuple[list[str], str]:
    """The names of the tools that a server with these facts has, and the warnings about others."""
    (workspace / "raw.json").write_text(json.dumps(facts), encoding="utf-8")
    told = Recorder()
    async with opened(workspace) as skills:
        tools = await skills.tools(expert(raw=RAW), told)
    return [tool.name for tool in tools if tool.skill_name == "raw"], told.lines()


@pytest.mark.parametrize(
    ("bad", "warning"),
    [
        ({"name": "bad", "inputSchema": {"type": "string"}}, "'bad' is left out: its inputSchema"),
        ({"name": "bad", "inputSchema": "string"}, "is a string, not an object"),
        ({"name": "bad", "inputSchema": []}, "is an array, not an object"),
        ({"name": "", "inputSchema": {}}, "a tool without a name is left out"),
        ({"name": 7, "inputSchema": {}}, "a tool without a name is left out: {'name': 7"),
        ({"inputSchema": {"type": "object"}}, "a tool without a name is left out"),
        ("bad", "a tool without a name is left out: 'bad'"),
        (None, "a tool without a name is left out: None"),
        ({**LOOK, "description": "Another."}, "more than one tool 'look'; the first is used"),
    ],
)
async def test_a_bad_tool_is_left_out_with_a_warning(
    tmp_path: Path, bad: object, warning: str
) -> None:
    names, warnings = await listed(tmp_path, pages={"": {"tools": [bad, LOOK, bad]}})

    assert warning in warnings
    assert names == ["look"]


@pytest.mark.parametrize(
    "odd",
    [
        {"inputSchema": None},
        {"inputSchema": {}},
        {"inputSchema": {"type": ["object", "null"]}},
        {"inputSchema": {"type": "OBJECT"}},
        {"inputSchema": {"type": ["dict", "None"]}},
        {"inputSchema": {"type": "object", "properties": {"a": {"type": "nonsense"}}}},
        {"inputSchema": {"type": "object", "required": "a", "$schema": 7}},
        {"annotations": {"readOnlyHint": "perhaps"}},
        {"annotations": [], "_meta": 5, "icons": "none", "execution": 1},
        {"description": 5, "title": ["a"]},
        {"outputSchema": {"type": "array"}},
        {"outputSchema": "text"},
    ],
)
async def test_a_tool_with_odd_parts_is_used(tmp_path: Path, odd: dict[str, Any]) -> None:
    names, warnings = await listed(tmp_path, pages={"": {"tools": [{"name": "odd", **odd}]}})

    assert names == ["odd"]
    assert ("outputSchema" in warnings) == ("outputSchema" in odd)


@pytest.mark.parametrize("cursor", ["", None, [], {"a": 1}, False])
async def test_a_cursor_that_is_none_ends_the_list(tmp_path: Path, cursor: object) -> None:
    pages = {"": {"tools": [LOOK], "nextCursor": cursor}}

    assert (await listed(tmp_path, pages=pages))[0] == ["look"]


async def test_a_cursor_that_comes_again_ends_the_list_with_a_warning(tmp_path: Path) -> None:
    pages = {
        "": {"tools": [LOOK], "nextCursor": "a"},
        "a": {"tools": [{**LOOK, "name": "more"}], "nextCursor": "b"},
        "b": {"tools": [LOOK], "nextCursor": "a"},
    }

    names, warnings = await listed(tmp_path, pages=pages)

    assert names == ["look", "more"]
    assert warnings == "(its list of tools has no end: it goes on with 'a' once more)"


async def test_hundreds_of_pages_are_read_also_with_numbers_as_cursors(tmp_path: Path) -> None:
    pages: dict[str, dict[str, Any]] = {
        str(number or ""): {"tools": [{**LOOK, "name": f"t{number}"}], "nextCursor": number + 1}
        for number in range(250)
    }
    pages["249"]["nextCursor"] = ""

    names, warnings = await listed(tmp_path, pages=pages)

    assert names == [f"t{number}" for number in range(250)]
    assert warnings == ""


@pytest.mark.parametrize("second", [None, {"tools": "none"}, {}])
async def test_a_page_that_cannot_be_read_costs_no_page_before_it(
    tmp_path: Path, second: object
) -> None:
    pages = {"": {"tools": [LOOK], "nextCursor": "2"}, "2": second}

    names, warnings = await listed(tmp_path, pages=pages)

    assert names == ["look"]
    assert warnings.startswith("(page 2 of its tools cannot be read, and none after it: ")


async def test_a_list_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(SkillError, match="its list of tools is a string, not an array"):
        await listed(tmp_path, pages={"": {"tools": "look"}})


@pytest.mark.parametrize("capabilities", [{}, {"prompts": {}}])
async def test_tools_are_asked_for_though_the_server_forgot_to_declare_them(
    tmp_path: Path, capabilities: dict[str, Any]
) -> None:
    assert (await listed(tmp_path, capabilities=capabilities))[0] == ["look"]


@pytest.mark.parametrize("pages", [{}, {"": {"tools": None}}])
async def test_a_server_that_declares_no_tools_may_have_none(
    tmp_path: Path, pages: dict[str, Any]
) -> None:
    assert (await listed(tmp_path, capabilities={}, pages=pages))[0] == []


@pytest.mark.parametrize("era", [{}, {"is_modern": True}])
async def test_tools_that_change_are_listed_again(tmp_path: Path, era: dict[str, Any]) -> None:
    more = {"": {"tools": [{**LOOK, "name": "extra"}]}}
    facts = {"changed_pages": more, "capabilities": {"tools": {"listChanged": True}}, **era}
    (tmp_path / "raw.json").write_text(json.dumps(facts), encoding="utf-8")
    tester = expert(raw=RAW)

    async with opened(tmp_path) as skills:
        unknown = skills.tools_version(tester)
        await skills.tools(tester, Recorder())
        first = skills.tools_version(tester)
        await skills.call(tester, call("look", skill_name="raw"), "key")
        second = skills.tools_version(tester)
        tools = await skills.tools(tester, Recorder())
        third = skills.tools_version(tester)
        extra = await skills.call(tester, call("extra", skill_name="raw"), "key")
        old = await skills.call(tester, call("look", skill_name="raw"), "key")

    assert unknown is None
    assert first != second == third
    assert [tool.name for tool in tools if tool.skill_name == "raw"] == ["extra"]
    assert (extra.text, extra.is_error) == ("looked", False)
    assert not old.is_error, "a run that was shown the tool before may still call it"


async def test_a_tool_whose_headers_are_wrong_is_left_out_as_the_newer_protocol_demands(
    tmp_path: Path,
) -> None:
    def tool(name: str, header: object) -> dict[str, Any]:
        properties = {"a": {"type": "string", "x-mcp-header": header}}
        return {"name": name, "inputSchema": {"type": "object", "properties": properties}}

    tools = [tool("right", "Region"), tool("wrong", "no token"), {**LOOK, "outputSchema": 5}]

    names, warnings = await listed(tmp_path, is_modern=True, pages={"": {"tools": tools}})
    older = await listed(tmp_path, pages={"": {"tools": tools}})

    assert names == ["right", "look"]
    assert "'wrong' is left out: its inputSchema property 'a': x-mcp-header" in warnings
    assert older[0] == ["right", "wrong", "look"]


async def test_tools_that_cannot_be_listed_again_stay(tmp_path: Path) -> None:
    (tmp_path / "raw.json").write_text(json.dumps({"changed_pages": {}}), encoding="utf-8")
    tester, told = expert(raw=RAW), Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        await skills.call(tester, call("look", skill_name="raw"), "key")
        tools = await skills.tools(tester, told)

    assert "look" in [tool.name for tool in tools]
    assert told.lines() == "(its tools have changed, and cannot be listed: no tools/list here)"
