"""How the tests call the base skill and read what it answers."""

import json
from pathlib import Path
from typing import Any

from perstack.core.messages import TextPart, ToolCall, ToolResult
from perstack.definition.references import BASE_SKILL
from perstack.skills.builtin.skill import BuiltInSkill

Facts = dict[str, Any]


async def ask(skill: BuiltInSkill, tool: str, **args: object) -> ToolResult:
    """Call a tool."""
    return await ask_with(skill, tool, args)


async def ask_with(skill: BuiltInSkill, tool: str, args: Facts) -> ToolResult:
    """Call a tool whose arguments are no Python names."""
    call = ToolCall(id="call-1", skill_name=BASE_SKILL, tool_name=tool, args=args)
    return await skill.call(call)


def facts_of(result: ToolResult) -> Facts:
    """The JSON object that a result begins with."""
    first = result.result[0]
    assert isinstance(first, TextPart)
    facts: Facts = json.loads(first.text)
    return facts


async def told(skill: BuiltInSkill, tool: str, **args: object) -> Facts:
    """What a tool answers when all is well."""
    result = await ask(skill, tool, **args)
    assert not result.is_error, result.text
    return facts_of(result)


async def refused(skill: BuiltInSkill, tool: str, **args: object) -> Facts:
    """What a tool answers when it cannot."""
    result = await ask(skill, tool, **args)
    assert result.is_error, result.text
    return facts_of(result)


def put(workspace: Path, name: str, content: str) -> Path:
    """Make a file, with the folders on the way."""
    path = workspace / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode())
    return path
