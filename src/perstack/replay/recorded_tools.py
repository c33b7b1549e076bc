"""The tools of the runs of a job, as far as its record shows them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import RecordedEvent
from perstack.core.messages import ToolKind
from perstack.core.tools import ToolDefinition
from perstack.definition.model import Definitions
from perstack.definition.rules import delegate_tool_names
from perstack.tool_names import tool_name

_TOOL_LISTING = re.compile(r"There is no tool .*\. The tools are: (.*)\.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class GenerationTools:
    """The tools of a run when it got a reply that calls some.

    Attributes:
        sequence: The place of that reply among the events of the run.
        tools: Those of its skills, as far as they mattered to the run.
    """

    sequence: int
    tools: tuple[ToolDefinition, ...]


def tools_by_run(
    history: Sequence[RecordedEvent], definitions: Definitions
) -> dict[str, tuple[GenerationTools, ...]]:
    """The tools of the skills that each run had and that mattered to it, by run.

    Those are the tools that it ever called, without those that there were not when it was told so,
    and all of them where it was told their names. Servers change their tools while a run goes on.
    """
    by_run: dict[str, _RunTools] = {}
    for event, after in history:
        run_tools = by_run.setdefault(after.run_id, _RunTools())
        run_tools.add(event, after)
        if isinstance(event, ev.RecordToolResult) and (
            names := _listed_names(event.tool_result.text)
        ):
            delegates = _delegate_names(definitions, after.expert.key)
            run_tools.listed[run_tools.sequences[-1]] = [
                name for name in names if name not in delegates
            ]
    return {run_id: run_tools.generations() for run_id, run_tools in by_run.items()}


def tools_at(generations: Sequence[GenerationTools], event: ev.RunEvent) -> GenerationTools | None:
    """The tools of a run before an event: those of its last reply, or those for its next one."""
    sequence = event.stamp.sequence
    before = [each for each in generations if each.sequence < sequence]
    after = [each for each in generations if each.sequence >= sequence]
    is_generating = isinstance(event, ev.StartGeneration | ev.CallTools | ev.Retry)
    choices = (after or before[::-1]) if is_generating else (before[::-1] or after)
    return choices[0] if choices else None


class _RunTools:
    """What the events of one run show of its tools."""

    def __init__(self) -> None:
        self.sequences = [0]
        self.listed: dict[int, list[str]] = {}
        self._called: dict[str, ToolDefinition] = {}
        self._missing: dict[int, set[str]] = {}

    def add(self, event: ev.RunEvent, after: Checkpoint) -> None:
        for call in after.tool_calls if event.stamp.sequence == 1 else ():
            if call.skill_name and call.kind != "delegate":
                self._called[call.tool_name] = _tool_definition(
                    call.tool_name, call.skill_name, call.kind, call.answer_schema
                )
        if isinstance(event, ev.CallTools):
            self.sequences.append(event.stamp.sequence)
            self._called |= _called_tools(event)
            self._missing[event.stamp.sequence] = _missing_names(event)

    def generations(self) -> tuple[GenerationTools, ...]:
        return tuple(
            GenerationTools(sequence, tuple(self._tools_at(sequence)))
            for sequence in self.sequences
        )

    def _tools_at(self, sequence: int) -> Iterator[ToolDefinition]:
        missing = self._missing.get(sequence, set())
        known = {name: tool for name, tool in self._called.items() if name not in missing}
        for name in self.listed.get(sequence, known):
            yield self._called.get(name) or _tool_definition(name)


def _missing_names(event: ev.CallTools) -> set[str]:
    """The tools that were called and that there were not."""
    names = {call.tool_call_id: call.tool_name for call in event.new_message.tool_calls}
    return {names[target.tool_call_id] for target in event.targets if not target.skill_name}


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
