"""Which tools experts will have, as far as the definitions say; nothing is started to find out."""

from dataclasses import dataclass

from perstack.definition.delegates import delegate_tool_names
from perstack.definition.model import Definitions, Expert, InteractiveSkill, McpStdioSkill, Skill
from perstack.definition.names import BASE_SKILL
from perstack.definition.tool_names import tool_name
from perstack.skills.base.skill import shown
from perstack.skills.launch import is_built_in


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSurface:
    """What one skill brings.

    Args:
        name: The skill's name.
        tools: The tools that are known already.
        source: Where the other tools come from once the skill is started, `None` if there are none.
        pick: The only tools to be shown of those.
        omit: Tools not to be shown of those.
    """

    name: str
    tools: tuple[str, ...] = ()
    source: str | None = None
    pick: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertSurface:
    """What one expert offers and has.

    Args:
        expert: The expert.
        published_name: Its name as a tool of the MCP server, `None` for a delegate.
        skills: What its skills bring.
        delegates: Expert keys with the tool names under which this expert calls them.
    """

    expert: Expert
    published_name: str | None
    skills: tuple[SkillSurface, ...]
    delegates: dict[str, str]


def surfaces(definitions: Definitions) -> tuple[ExpertSurface, ...]:
    """All experts, in file order."""
    return tuple(_surface(expert, definitions) for expert in definitions.experts.values())


def _surface(expert: Expert, definitions: Definitions) -> ExpertSurface:
    skills = (
        _skill(name, skill, definitions, is_delegate=expert.is_delegate)
        for name, skill in expert.skills.items()
    )
    return ExpertSurface(
        expert=expert,
        published_name=None if expert.is_delegate else tool_name(expert.key),
        skills=tuple(skill for skill in skills if skill is not None),
        delegates=delegate_tool_names(expert, definitions),
    )


def _skill(
    name: str, skill: Skill, definitions: Definitions, *, is_delegate: bool
) -> SkillSurface | None:
    if isinstance(skill, InteractiveSkill):
        # Nobody can be asked on behalf of a delegate.
        return None if is_delegate else SkillSurface(name=name, tools=tuple(skill.tools))
    own_command = definitions.perstack_base_skill_command if name == BASE_SKILL else None
    if name == BASE_SKILL and own_command is None and is_base(skill):
        tools = tuple(tool.name for tool in shown(skill.pick, skill.omit))
        return SkillSurface(name=name, tools=tools)
    source = " ".join(own_command) if own_command else _source(skill)
    return SkillSurface(name=name, source=source, pick=skill.pick, omit=skill.omit)


def is_base(skill: Skill) -> bool:
    """Whether the skill is the base skill that is built in."""
    return isinstance(skill, McpStdioSkill) and is_built_in(skill)


def _source(skill: Skill) -> str:
    if isinstance(skill, McpStdioSkill):
        rest = (skill.package_name,) if skill.package_name is not None else skill.args
        return " ".join((skill.command, *rest))
    return "" if isinstance(skill, InteractiveSkill) else skill.endpoint
