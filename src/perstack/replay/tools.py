"""The tools of the runs of a job, as far as its record shows them."""

import re
from collections.abc import Iterable, Mapping, Sequence

from perstack.core import events as ev
from perstack.core.messages import ToolKind
from perstack.core.tools import ToolDefinition
from perstack.core.trail import Step
from perstack.definition.delegates import delegate_tool_names
from perstack.definition.model import Definitions
from perstack.definition.tool_names import tool_name

_LISTING = re.compile(r"There is no tool .*\. The tools are: (.*)\.", re.DOTALL)


def tools_in(
    trail: Sequence[Step], definitions: Definitions
) -> dict[str, tuple[ToolDefinition, ...]]:
    """The tools of the skills that each run had and that mattered to it, by run.

    Those are the tools that it called, and all of them where it was told their names.
    """
    found: dict[str, dict[str, ToolDefinition]] = {}
    for event, after in trail:
        tools = found.setdefault(after.run_id, {})
        for call in after.tool_calls if event.stamp.sequence == 1 else ():
            if call.skill_name and call.kind != "delegate":
                tools[call.tool_name] = _tool(
                    call.tool_name, call.skill_name, call.kind, call.answer_schema
                )
        if isinstance(event, ev.CallTools):
            tools |= _called(event)
            found[after.run_id] = tools
        elif isinstance(event, ev.RecordToolResult):
            names = _told(event.tool_result.text)
            if names:
                delegates = _delegate_names(definitions, after.expert.key)
                own = [name for name in names if name not in delegates]
                found[after.run_id] = {name: tools.get(name) or _tool(name) for name in own} | tools
    return {run_id: tuple(tools.values()) for run_id, tools in found.items()}


def _called(event: ev.CallTools) -> Mapping[str, ToolDefinition]:
    names = {call.tool_call_id: call.tool_name for call in event.new_message.tool_calls}
    return {
        names[target.tool_call_id]: _tool(
            names[target.tool_call_id], target.skill_name, target.kind, target.answer_schema
        )
        for target in event.targets
        if target.skill_name and target.kind != "delegate"
    }


def _tool(
    name: str,
    skill_name: str = "unknown",
    kind: ToolKind = "mcp",
    answer_schema: dict[str, object] | None = None,
) -> ToolDefinition:
    # Repeatable, as the record has what came of calls in doubt.
    return ToolDefinition(
        skill_name=skill_name,
        name=name,
        description="",
        input_schema={},
        kind=kind,
        is_repeatable=True,
        answer_schema=answer_schema,
    )


def _told(text: str) -> list[str]:
    listing = _LISTING.fullmatch(text)
    return listing[1].split(", ") if listing else []


def _delegate_names(definitions: Definitions, expert_key: str) -> Iterable[str]:
    expert = definitions.experts.get(expert_key)
    if expert is None:
        return ()
    short = delegate_tool_names(expert, definitions)
    return {*short.values(), *(tool_name(key) for key in short)}
