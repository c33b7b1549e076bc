"""The tools of the runs of a job, as far as its record shows them."""

import re
from collections.abc import Iterable, Mapping, Sequence

from perstack.core import events as ev
from perstack.core.history import RecordedEvent
from perstack.core.messages import ToolKind
from perstack.core.tools import ToolDefinition
from perstack.definition.model import Definitions
from perstack.definition.rules import delegate_tool_names
from perstack.tool_names import tool_name

_TOOL_LISTING = re.compile(r"There is no tool .*\. The tools are: (.*)\.", re.DOTALL)


def tools_by_run(
    history: Sequence[RecordedEvent], definitions: Definitions
) -> dict[str, tuple[ToolDefinition, ...]]:
    """The tools of the skills that each run had and that mattered to it, by run.

    Those are the tools that it called, and all of them where it was told their names.
    """
    by_run: dict[str, dict[str, ToolDefinition]] = {}
    for event, after in history:
        tools = by_run.setdefault(after.run_id, {})
        for call in after.tool_calls if event.stamp.sequence == 1 else ():
            if call.skill_name and call.kind != "delegate":
                tools[call.tool_name] = _tool_definition(
                    call.tool_name, call.skill_name, call.kind, call.answer_schema
                )
        if isinstance(event, ev.CallTools):
            tools |= _called_tools(event)
            by_run[after.run_id] = tools
        elif isinstance(event, ev.RecordToolResult):
            names = _listed_names(event.tool_result.text)
            if names:
                delegates = _delegate_names(definitions, after.expert.key)
                own = [name for name in names if name not in delegates]
                by_run[after.run_id] = {
                    name: tools.get(name) or _tool_definition(name) for name in own
                } | tools
    return {run_id: tuple(tools.values()) for run_id, tools in by_run.items()}


def _called_tools(event: ev.CallTools) -> Mapping[str, ToolDefinition]:
    names = {call.tool_call_id: call.tool_name for call in event.new_message.tool_calls}
    return {
        names[target.tool_call_id]: _tool_definition(
            names[target.tool_call_id], target.skill_name, target.kind, target.answer_schema
        )
        for target in event.targets
        if target.skill_name and target.kind != "delegate"
    }


def _tool_definition(
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


def _listed_names(text: str) -> list[str]:
    listing = _TOOL_LISTING.fullmatch(text)
    return listing[1].split(", ") if listing else []


def _delegate_names(definitions: Definitions, expert_key: str) -> Iterable[str]:
    expert = definitions.experts.get(expert_key)
    if expert is None:
        return ()
    short_names = delegate_tool_names(expert, definitions)
    return {*short_names.values(), *(tool_name(key) for key in short_names)}
