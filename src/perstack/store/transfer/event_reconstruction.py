"""A run of which only the conversation is known, told again as events.

Other tools for perstack store checkpoints, each with the whole conversation, and events that change
with their version. So the newest checkpoint of a run is what counts: the events made here lead to
the same conversation, and to a run that can be continued. What only the original events said, such
as failed attempts to reach the model, is not told again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from perstack.core import events as ev
from perstack.core.checkpoint import CheckpointStatus
from perstack.core.messages import (
    ExpertMessage,
    Message,
    TextPart,
    ToolCallPart,
    ToolKind,
    ToolMessage,
    ToolResult,
    Usage,
)
from perstack.core.wire import DELEGATE_SKILL_PREFIX

COMPLETION_TOOL = "attemptCompletion"
EventT = TypeVar("EventT", bound=ev.StoredEvent)


@dataclass(frozen=True, slots=True)
class GenerationFact:
    """Facts about a generation beside its message."""

    step_number: int
    timestamp: int
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """Facts about a run.

    Attributes:
        messages: The conversation.
        facts: Facts about its messages, by position.
        skill_names: The skills of tool calls, by their ids.
        results: What the open calls of the last message have for an answer so far.
        delegate_to: The delegate calls that wait for their runs.
    """

    job_id: str
    run_id: str
    expert: ev.ExpertRef
    status: CheckpointStatus
    step_number: int
    step_limit: int
    started_at: int
    messages: Sequence[Message]
    provider: str = ""
    model: str = ""
    facts: Mapping[int, GenerationFact] = field(default_factory=dict[int, GenerationFact])
    skill_names: Mapping[str, str] = field(default_factory=dict[str, str])
    results: Sequence[ToolResult] = ()
    delegated_by: ev.DelegatedBy | None = None
    delegate_to: Sequence[ev.Delegation] = ()
    error: ev.RunError | None = None


def reconstruct(snapshot: RunSnapshot) -> tuple[ev.StoredEvent, ...]:
    return _Reconstructor(snapshot).reconstruct()


class _Reconstructor:
    """Walks along the conversation and writes down what must have happened."""

    def __init__(self, snapshot: RunSnapshot) -> None:
        self._snapshot = snapshot
        self._events: list[ev.StoredEvent] = []
        self._next_index = _next_generation(snapshot.messages)
        first = snapshot.facts.get(self._next_index)
        self._step_number = first.step_number if first else 1
        self._timestamp = snapshot.started_at
        self._is_step_over = False
        self._open_calls: tuple[ToolCallPart, ...] = ()

    def reconstruct(self) -> tuple[ev.StoredEvent, ...]:
        snapshot = self._snapshot
        self._add(
            ev.StartRun,
            expert=snapshot.expert,
            provider=snapshot.provider,
            model=snapshot.model,
            input_messages=tuple(snapshot.messages[: self._next_index]),
            step_limit=snapshot.step_limit,
            delegated_by=snapshot.delegated_by,
        )
        while self._next_index < len(snapshot.messages) and not self._has_ended:
            message = snapshot.messages[self._next_index]
            if isinstance(message, ExpertMessage) and message.tool_calls:
                self._add_tool_calls(message)
            else:
                self._add_text_reply()
        if not self._has_ended:
            self._add_stop()
        return tuple(self._events)

    @property
    def _has_ended(self) -> bool:
        return isinstance(self._events[-1], ev.CompleteRun)

    def _add(self, event_type: type[EventT], **fields: Any) -> None:
        snapshot = self._snapshot
        stamp = ev.Stamp(
            job_id=snapshot.job_id,
            run_id=snapshot.run_id,
            expert_key=snapshot.expert.key,
            step_number=self._step_number,
            sequence=len(self._events) + 1,
            timestamp=self._timestamp,
        )
        self._events.append(event_type(stamp=stamp, **fields))

    def _start_generation(self) -> Usage:
        """The model is asked for the next message; what it cost."""
        snapshot = self._snapshot
        fact = snapshot.facts.get(self._next_index)
        is_last = _next_generation(snapshot.messages, self._next_index + 1) == len(
            snapshot.messages
        )
        self._continue_to_step(fact.step_number if fact else snapshot.step_number if is_last else 0)
        self._timestamp = max(self._timestamp, fact.timestamp if fact else 0)
        self._add(ev.StartGeneration)
        return fact.usage if fact else Usage()

    def _continue_to_step(self, step_number: int) -> None:
        if self._is_step_over:
            next_step = max(step_number, self._step_number + 1)
            self._add(ev.ContinueToNextStep, next_step_number=next_step)
            self._step_number, self._is_step_over = next_step, False

    def _add_text_reply(self) -> None:
        """A message without calls: the answer, or something to which more was said."""
        messages = self._snapshot.messages
        message = messages[self._next_index]
        usage = self._start_generation()
        is_last = self._next_index == len(messages) - 1
        if isinstance(message, ExpertMessage) and is_last and self._snapshot.status == "completed":
            self._add(ev.CompleteRun, text=message.text, new_message=message, usage=usage)
            return
        end = _next_generation(messages, self._next_index + 1)
        new_messages = tuple(messages[self._next_index : end])
        self._add(ev.Retry, reason="", new_messages=new_messages, usage=usage)
        self._next_index, self._is_step_over = end, True

    def _add_tool_calls(self, message: ExpertMessage) -> None:
        messages = self._snapshot.messages
        usage = self._start_generation()
        calls = message.tool_calls
        targets = tuple(self._tool_target(call) for call in calls)
        self._add(ev.CallTools, new_message=message, targets=targets, usage=usage)
        mcp_call_ids = tuple(target.tool_call_id for target in targets if target.kind == "mcp")
        if mcp_call_ids:
            self._add(ev.StartToolCalls, tool_call_ids=mcp_call_ids)
        self._next_index += 1
        tool_message = messages[self._next_index] if self._next_index < len(messages) else None
        if isinstance(tool_message, ToolMessage):
            self._next_index += 1
            self._add_tool_results(calls, self._build_tool_results(calls, tool_message))
            return
        for result in self._snapshot.results:
            self._add(ev.RecordToolResult, tool_result=result)
        answered = {result.id for result in self._snapshot.results}
        self._open_calls = tuple(call for call in calls if call.tool_call_id not in answered)

    def _add_tool_results(
        self, calls: Sequence[ToolCallPart], results: Sequence[ToolResult]
    ) -> None:
        remaining = self._snapshot.messages[self._next_index :]
        if self._snapshot.status == "completed" and len(remaining) == 1:
            final = remaining[0]
            completion_calls = [
                call.tool_call_id for call in calls if call.tool_name == COMPLETION_TOOL
            ]
            if isinstance(final, ExpertMessage) and not final.tool_calls and completion_calls:
                self._add_completion(completion_calls[-1], results, final.text)
                return
        for result in results:
            self._add(ev.RecordToolResult, tool_result=result)
        self._add(ev.ResolveToolResults)
        self._add(ev.FinishToolCall)
        self._is_step_over = True

    def _add_completion(self, call_id: str, results: Sequence[ToolResult], text: str) -> None:
        for result in results:
            if result.id != call_id:
                self._add(ev.RecordToolResult, tool_result=result)
        accepted = next(result for result in results if result.id == call_id)
        self._add(ev.AttemptCompletion, tool_result=accepted, accepted=True)
        self._add(ev.CompleteRun, text=text)

    def _build_tool_results(
        self, calls: Sequence[ToolCallPart], tool_message: ToolMessage
    ) -> tuple[ToolResult, ...]:
        parts = {part.tool_call_id: part for part in tool_message.contents}
        return tuple(
            ToolResult(
                id=call.tool_call_id,
                skill_name=self._skill_name(call),
                tool_name=call.tool_name,
                result=parts[call.tool_call_id].contents
                if call.tool_call_id in parts
                else (TextPart(text="The result of this call was not stored."),),
                is_error=call.tool_call_id not in parts or parts[call.tool_call_id].is_error,
            )
            for call in calls
        )

    def _tool_target(self, call: ToolCallPart) -> ev.ToolTarget:
        skill = self._skill_name(call)
        kind: ToolKind = "mcp"
        if skill.startswith(DELEGATE_SKILL_PREFIX):
            kind = "delegate"
        elif call.tool_call_id in self._interactive_call_ids:
            kind = "interactive"
        return ev.ToolTarget(tool_call_id=call.tool_call_id, skill_name=skill, kind=kind)

    def _skill_name(self, call: ToolCallPart) -> str:
        return self._snapshot.skill_names.get(call.tool_call_id, "")

    @property
    def _interactive_call_ids(self) -> frozenset[str]:
        """The ids of the calls that wait for the user."""
        snapshot = self._snapshot
        last = snapshot.messages[-1]
        if snapshot.status != "stoppedByInteractiveTool" or not isinstance(last, ExpertMessage):
            return frozenset()
        answered = {result.id for result in snapshot.results}
        return frozenset(call.tool_call_id for call in last.tool_calls) - answered

    def _add_stop(self) -> None:
        """The stop of the run; without one it counts as interrupted."""
        snapshot = self._snapshot
        if snapshot.status == "stoppedByInteractiveTool" and self._open_calls:
            self._add(ev.FinishMcpTools)
            self._add(ev.SkipDelegates)
            self._add(ev.CallInteractiveTool, tool_call_id=self._open_calls[0].tool_call_id)
            self._add(ev.StopRunByInteractiveTool)
        elif snapshot.status == "stoppedByDelegate" and snapshot.delegate_to:
            self._add(ev.FinishMcpTools)
            self._add(ev.CallDelegate, delegate_to=tuple(snapshot.delegate_to))
            self._add(ev.StopRunByDelegate)
        elif snapshot.status == "stoppedByExceededMaxSteps" and self._is_step_over:
            self._add(ev.StopRunByExceededMaxSteps)
        elif snapshot.status == "stoppedByError":
            unknown_error = ev.RunError(name="Error", message="The run was stopped by an error.")
            self._add(ev.StopRunByError, error=snapshot.error or unknown_error)
        elif snapshot.status == "stoppedByCancellation":
            self._add(ev.StopRunByCancellation, reason="It was stopped where it ran.")
        elif self._is_step_over:
            self._continue_to_step(snapshot.step_number)


def _next_generation(messages: Sequence[Message], start: int = 0) -> int:
    """The position of the next message that a model made, or the end."""
    for position in range(start, len(messages)):
        if isinstance(messages[position], ExpertMessage):
            return position
    return len(messages)
