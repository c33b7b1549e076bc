"""Resources of the definitions: what experts are and may do, without secrets.

The fields are listed one by one, so that a field which is added to the file is not published until
it is added here.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from perstack.definition.model import (
    Definitions,
    Expert,
    InteractiveSkill,
    McpSseSkill,
    McpStdioSkill,
    Skill,
    ToolFilter,
)
from perstack.server.resources.uris import ResourceUri
from perstack.server.summaries import Document, to_pretty_json

JsonObject = dict[str, Any]


def definitions_document(
    definitions: Definitions, experts: Mapping[str, Expert], problems: Sequence[str] = ()
) -> Document:
    """The settings that experts share, and their summaries.

    Args:
        definitions: The current definitions.
        experts: The experts to show, by tool name.
        problems: Why an edit of the file was rejected, if it was.
    """
    return Document(
        text=to_pretty_json(
            _without_empty(
                {
                    "provider": definitions.provider.provider_name,
                    "model": definitions.model,
                    "reasoning_budget": definitions.reasoning_budget,
                    "max_steps": definitions.max_steps,
                    "max_retries": definitions.max_retries,
                    "timeout_ms": definitions.timeout,
                    "max_tool_result_characters": definitions.max_tool_result_characters,
                    "problems": list(problems),
                    "experts": [_expert_summary(name, expert) for name, expert in experts.items()],
                }
            )
        )
    )


def expert_document(name: str, expert: Expert) -> Document:
    return Document(
        text=to_pretty_json(
            _expert_summary(name, expert)
            | _without_empty(
                {
                    "instruction": expert.instruction,
                    "min_runtime_version": expert.min_runtime_version,
                    "default_model_tier": expert.default_model_tier,
                    "provider_tools": list(expert.provider_tools),
                    "skills": {
                        skill_name: _without_empty(_skill_fields(skill))
                        for skill_name, skill in expert.skills.items()
                    },
                }
            )
        )
    )


def _expert_summary(name: str, expert: Expert) -> JsonObject:
    return _without_empty(
        {
            "tool": name,
            "expert": expert.key,
            "version": expert.version,
            "description": expert.description,
            "delegates": list(expert.delegates),
            "tags": list(expert.tags),
            "uri": ResourceUri("expert", {"name": name}).text,
        }
    )


def _skill_fields(skill: Skill) -> JsonObject:
    common: JsonObject = {"type": skill.type, "description": skill.description, "rule": skill.rule}
    match skill:
        case McpStdioSkill():
            # Without the arguments, which may contain keys.
            return {
                **common,
                "command": skill.command,
                "package_name": skill.package_name,
                **_tool_filter_fields(skill),
            }
        case McpSseSkill():
            host = urlsplit(skill.endpoint).hostname
            return {**common, "host": host, **_tool_filter_fields(skill)}
        case InteractiveSkill():
            questions = {tool: definition.description for tool, definition in skill.tools.items()}
            return {**common, "tools": questions}


def _tool_filter_fields(skill: ToolFilter) -> JsonObject:
    return {
        "pick": list(skill.pick),
        "omit": list(skill.omit),
        "allowed_domains": list(skill.allowed_domains),
        "required_env": list(skill.required_env),
    }


def _without_empty(document: JsonObject) -> JsonObject:
    return {name: value for name, value in document.items() if value not in (None, [], {})}
