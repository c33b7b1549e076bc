"""The tools of one expert, by unique names."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from perstack.core.tools import ToolDefinition
from perstack.definition.model import InteractiveSkill, InteractiveTool
from perstack.errors import SkillError
from perstack.tool_names import skill_tool_name


@dataclass(slots=True)
class ToolCatalog:
    """The tools that a model is shown, and each tool's own name by skill and shown name.

    `reserved` names are those of other tools.
    """

    definitions: list[ToolDefinition] = field(default_factory=list[ToolDefinition])
    original_names: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    reserved: set[str] = field(default_factory=set[str])

    def add(self, skill_name: str, tools: Iterable[ToolDefinition]) -> None:
        """Add a skill's tools; a name that is taken or that providers refuse is replaced."""
        taken = self.reserved.union(definition.name for definition in self.definitions)
        for tool in tools:
            name = skill_tool_name(skill_name, tool.name, taken)
            taken.add(name)
            is_same = (tool.skill_name, tool.name) == (skill_name, name)
            # Tools that all jobs share keep what providers are told of them.
            shown = tool if is_same else replace(tool, skill_name=skill_name, name=name)
            self.definitions.append(shown)
            self.original_names[skill_name, name] = tool.name


def filter_tools(
    tools: Sequence[ToolDefinition],
    pick: Sequence[str],
    omit: Sequence[str],
    warn: Callable[[str], None],
) -> list[ToolDefinition]:
    """The tools without `omit`, then only `pick` if it names any."""
    available = [tool.name for tool in tools]
    for key, names in (("pick", pick), ("omit", omit)):
        unknown = [name for name in names if name not in available]
        if unknown:
            warn(
                f"`{key}` names {', '.join(map(repr, unknown))}, which the server does not offer; "
                f"it offers {', '.join(map(repr, available)) or 'nothing'}"
            )
    allowed = [tool for tool in tools if tool.name not in omit]
    return [tool for tool in allowed if tool.name in pick] if pick else allowed


def interactive_tools(skill_name: str, skill: InteractiveSkill) -> list[ToolDefinition]:
    """The tools of an interactive skill.

    Raises:
        SkillError: A schema is not a JSON object.
    """
    return [_interactive_tool(skill_name, name, tool) for name, tool in skill.tools.items()]


def _interactive_tool(skill_name: str, name: str, tool: InteractiveTool) -> ToolDefinition:
    try:
        schema = json.loads(tool.input_json_schema)
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error}"
    else:
        if isinstance(schema, dict):
            return ToolDefinition(
                skill_name=skill_name,
                name=name,
                description=tool.description or "",
                input_schema={"type": "object", **cast("dict[str, Any]", schema)},
                kind="interactive",
                answer_schema=None
                if tool.answer_json_schema is None
                else json.loads(tool.answer_json_schema),
            )
        problem = "is not a JSON object"
    raise SkillError(
        f"Skill {skill_name!r}: `inputJsonSchema` of tool {name!r} {problem}.",
        skill=skill_name,
        hint="Give a JSON Schema of type object as a string.",
    )
