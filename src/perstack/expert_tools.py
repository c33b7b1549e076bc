"""The tools that experts will have, from the definitions alone; no skill is started."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from perstack.core.tools import ToolDefinition
from perstack.definition.model import (
    Definitions,
    Expert,
    InteractiveSkill,
    McpSseSkill,
    McpStdioSkill,
    Skill,
)
from perstack.model_resolution import EnvironmentVariable
from perstack.runtime.tools import build_toolbox
from perstack.skills.builtin.skill import select_definitions
from perstack.skills.tool_catalog import ToolCatalog, interactive_tools
from perstack.tool_names import tool_name


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillToolset:
    """The tools of one skill.

    Attributes:
        name: The skill's name.
        tools: The tools that the definitions name.
        source: The command line or host that the other tools come from at run time, if any do.
        pick: The only tools to be shown of those.
        omit: Tools not to be shown of those.
        variables: What must be set before the skill can be used.
        is_interactive: Whether people answer its tools; they are asked by undelegated runs only.
    """

    name: str
    tools: tuple[str, ...] = ()
    source: str | None = None
    pick: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    variables: tuple[EnvironmentVariable, ...] = ()
    is_interactive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertToolset:
    """The published name and the tools of one expert.

    Attributes:
        expert: The expert.
        published_name: Its name as a tool of the MCP server, `None` for a delegate.
        skills: The tools of its skills.
        delegates: Expert keys with the tool names under which this expert calls them.
    """

    expert: Expert
    published_name: str | None
    skills: tuple[SkillToolset, ...]
    delegates: dict[str, str]


def declared_schema_kinds(expert: Expert) -> tuple[str, ...]:
    """Which of inputs and outputs an expert declares."""
    declared = {"input": expert.tool.input_schema, "output": expert.tool.output_schema}
    return tuple(kind for kind, schema in declared.items() if schema is not None)


def expert_toolsets(
    definitions: Definitions, environment: Mapping[str, str]
) -> tuple[ExpertToolset, ...]:
    """All experts, in file order."""
    return tuple(
        _expert_toolset(expert, definitions, environment) for expert in definitions.experts.values()
    )


def _expert_toolset(
    expert: Expert, definitions: Definitions, environment: Mapping[str, str]
) -> ExpertToolset:
    # Put together by what puts them together for a run, so that the names are those of a run.
    static_tools = {
        name: _static_tools(name, skill, definitions) for name, skill in expert.skills.items()
    }
    catalog = ToolCatalog()
    for name, tools in static_tools.items():
        catalog.add(name, tools or ())
    toolbox = build_toolbox(
        expert, definitions, tuple(catalog.definitions), is_delegated=expert.is_delegate
    )
    toolsets: list[SkillToolset] = []
    for name, skill in expert.skills.items():
        if isinstance(skill, InteractiveSkill) or static_tools[name] is not None:
            toolset = SkillToolset(
                name=name,
                tools=tuple(
                    tool.name
                    for tool in toolbox.definitions
                    if tool.kind != "delegate" and tool.skill_name == name
                ),
                is_interactive=isinstance(skill, InteractiveSkill),
            )
        else:
            toolset = SkillToolset(
                name=name,
                source=_tool_source(skill, definitions),
                pick=skill.pick,
                omit=skill.omit,
                variables=tuple(
                    EnvironmentVariable.of(variable, environment) for variable in skill.required_env
                ),
            )
        toolsets.append(toolset)
    return ExpertToolset(
        expert=expert,
        published_name=None if expert.is_delegate else tool_name(expert.key),
        skills=tuple(toolsets),
        delegates={key: name for name, key in toolbox.delegates.items()},
    )


def _static_tools(
    name: str, skill: Skill, definitions: Definitions
) -> Sequence[ToolDefinition] | None:
    """The tools that the definitions name; `None` if they are known at run time only."""
    if isinstance(skill, InteractiveSkill):
        return interactive_tools(name, skill)
    own_command = definitions.perstack_base_skill_command
    if isinstance(skill, McpStdioSkill) and skill.is_built_in and own_command is None:
        return select_definitions(skill.pick, skill.omit)
    return None


def _tool_source(skill: McpStdioSkill | McpSseSkill, definitions: Definitions) -> str:
    if isinstance(skill, McpSseSkill):
        # Only the host: the rest of a URL may carry a key.
        return urlsplit(skill.endpoint).hostname or skill.endpoint
    own_command = definitions.perstack_base_skill_command
    if own_command is not None and skill.is_built_in:
        return " ".join(own_command)
    return " ".join((skill.command, *skill.package_args))
