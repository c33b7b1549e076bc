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

COMPLETING = "attemptCompletion"
DELEGATE = "delegate/"
EVENT = TypeVar("EVENT", bound=ev.StoredEvent)


@dataclass(frozen=True, slots=True)
class Fact:
    """What is known of a generation beside its message."""

    step_number: int
    timestamp: int
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is known of a run.

    Attributes:
        messages: The conversation.
        facts: What is known of its messages, by their positions.
        skills: The skills of tool calls, by their ids.
        results: What the open calls of the last message have for an answer so far.
        children: The runs that answer delegate calls, by the ids of the calls.
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
    facts: Mapping[int, Fact] = field(default_factory=dict[int, Fact])
    skills: Mapping[str, str] = field(default_factory=dict[str, str])
    results: Sequence[ToolResult] = ()
    delegated_by: ev.DelegatedBy | None = None
    delegate_to: Sequence[ev.Delegation] = ()
    error: ev.RunError | None = None


def retell(told: Told) -> tuple[ev.StoredEvent, ...]:
    """The events of the run."""
    return _Teller(told).tell()


class _Teller:
    """Walks along the conversation and writes down what must have happened."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._events: list[ev.StoredEvent] = []
        self._next = _first_generation(told.messages)
        first = told.facts.get(self._next)
        self._step = first.step_number if first else 1
        self._now = told.started_at
        self._is_step_over = False
        self._open: tuple[ToolCallPart, ...] = ()

    def tell(self) -> tuple[ev.StoredEvent, ...]:
        told = self._told
        self._add(
            ev.StartRun,
            expert=told.expert,
            provider=told.provider,
            model=told.model,
            input_messages=tuple(told.messages[: self._next]),
            step_limit=told.step_limit,
            delegated_by=told.delegated_by,
        )
        while self._next < len(told.messages) and not self._has_ended:
            message = told.messages[self._next]
            if isinstance(message, ExpertMessage) and message.tool_calls:
                self._calls(message)
            else:
                self._text()
        if not self._has_ended:
            self._end()
        return tuple(self._events)

    @property
    def _has_ended(self) -> bool:
        return isinstance(self._events[-1], ev.CompleteRun)

    def _add(self, kind: type[EVENT], **fields: Any) -> None:
        told = self._told
        stamp = ev.Stamp(
            job_id=told.job_id,
            run_id=told.run_id,
            expert_key=told.expert.key,
            step_number=self._step,
            sequence=len(self._events) + 1,
            timestamp=self._now,
        )
        self._events.append(kind(stamp=stamp, **fields))

    def _generate(self) -> Usage:
        """The model is asked for the next message; what it cost."""
        told = self._told
        fact = told.facts.get(self._next)
        is_last = _first_generation(told.messages, self._next + 1) == len(told.messages)
        self._go_on(fact.step_number if fact else told.step_number if is_last else 0)
        self._now = max(self._now, fact.timestamp if fact else 0)
        self._add(ev.StartGeneration)
        return fact.usage if fact else Usage()

    def _go_on(self, step_number: int) -> None:
        if self._is_step_over:
            following = max(step_number, self._step + 1)
            self._add(ev.ContinueToNextStep, next_step_number=following)
            self._step, self._is_step_over = following, False

    def _text(self) -> None:
        """A message without calls: the answer, or something to which more was said."""
        messages = self._told.messages
        first = messages[self._next]
        usage = self._generate()
        is_last = self._next == len(messages) - 1
        if isinstance(first, ExpertMessage) and is_last and self._told.status == "completed":
            self._add(ev.CompleteRun, text=first.text, new_message=first, usage=usage)
            return
        end = _first_generation(messages, self._next + 1)
        said = tuple(messages[self._next : end])
        self._add(ev.Retry, reason="", new_messages=said, usage=usage)
        self._next, self._is_step_over = end, True

    def _calls(self, message: ExpertMessage) -> None:
        messages = self._told.messages
        usage = self._generate()
        calls = message.tool_calls
        targets = tuple(self._target(call) for call in calls)
        self._add(ev.CallTools, new_message=message, targets=targets, usage=usage)
        of_skills = tuple(target.tool_call_id for target in targets if target.kind == "mcp")
        if of_skills:
            self._add(ev.StartToolCalls, tool_call_ids=of_skills)
        self._next += 1
        answer = messages[self._next] if self._next < len(messages) else None
        if isinstance(answer, ToolMessage):
            self._next += 1
            self._answers(calls, self._results(calls, answer))
            return
        for result in self._told.results:
            self._add(ev.RecordToolResult, tool_result=result)
        answered = {result.id for result in self._told.results}
        self._open = tuple(call for call in calls if call.tool_call_id not in answered)

    def _answers(self, calls: Sequence[ToolCallPart], results: Sequence[ToolResult]) -> None:
        rest = self._told.messages[self._next :]
        if self._told.status == "completed" and len(rest) == 1:
            final = rest[0]
            completing = [call.tool_call_id for call in calls if call.tool_name == COMPLETING]
            if isinstance(final, ExpertMessage) and not final.tool_calls and completing:
                self._complete(completing[-1], results, final.text)
                return
        for result in results:
            self._add(ev.RecordToolResult, tool_result=result)
        self._add(ev.ResolveToolResults)
        self._add(ev.FinishToolCall)
        self._is_step_over = True

    def _complete(self, call_id: str, results: Sequence[ToolResult], text: str) -> None:
        for result in results:
            if result.id != call_id:
                self._add(ev.RecordToolResult, tool_result=result)
        accepted = next(result for result in results if result.id == call_id)
        self._add(ev.AttemptCompletion, tool_result=accepted, accepted=True)
        self._add(ev.CompleteRun, text=text)

    def _results(
        self, calls: Sequence[ToolCallPart], answer: ToolMessage
    ) -> tuple[ToolResult, ...]:
        parts = {part.tool_call_id: part for part in answer.contents}
        return tuple(
            ToolResult(
                id=call.tool_call_id,
                skill_name=self._skill(call),
                tool_name=call.tool_name,
                result=parts[call.tool_call_id].contents
                if call.tool_call_id in parts
                else (TextPart(text="The result of this call was not stored."),),
                is_error=call.tool_call_id not in parts or parts[call.tool_call_id].is_error,
            )
            for call in calls
        )

    def _target(self, call: ToolCallPart) -> ev.ToolTarget:
        skill = self._skill(call)
        kind: ToolKind = "mcp"
        if skill.startswith(DELEGATE):
            kind = "delegate"
        elif call.tool_call_id in self._asked:
            kind = "interactive"
        return ev.ToolTarget(tool_call_id=call.tool_call_id, skill_name=skill, kind=kind)

    def _skill(self, call: ToolCallPart) -> str:
        return self._told.skills.get(call.tool_call_id, "")

    @property
    def _asked(self) -> frozenset[str]:
        """The ids of the calls that wait for the user."""
        told = self._told
        last = told.messages[-1]
        if told.status != "stoppedByInteractiveTool" or not isinstance(last, ExpertMessage):
            return frozenset()
        answered = {result.id for result in told.results}
        return frozenset(call.tool_call_id for call in last.tool_calls) - answered

    def _end(self) -> None:
        """The run stops, if it did; else whoever takes it up finds it interrupted."""
        told = self._told
        if told.status == "stoppedByInteractiveTool" and self._open:
            self._add(ev.FinishMcpTools)
            self._add(ev.SkipDelegates)
            self._add(ev.CallInteractiveTool, tool_call_id=self._open[0].tool_call_id)
            self._add(ev.StopRunByInteractiveTool)
        elif told.status == "stoppedByDelegate" and told.delegate_to:
            self._add(ev.FinishMcpTools)
            self._add(ev.CallDelegate, delegate_to=tuple(told.delegate_to))
            self._add(ev.StopRunByDelegate)
        elif told.status == "stoppedByExceededMaxSteps" and self._is_step_over:
            self._add(ev.StopRunByExceededMaxSteps)
        elif told.status == "stoppedByError":
            unknown = ev.RunError(name="Error", message="The run was stopped by an error.")
            self._add(ev.StopRunByError, error=told.error or unknown)
        elif told.status == "stoppedByCancellation":
            self._add(ev.StopRunByCancellation, reason="It was stopped where it ran.")
        elif self._is_step_over:
            self._go_on(told.step_number)


def _first_generation(messages: Sequence[Message], start: int = 0) -> int:
    """The position of the next message that a model made, or the end."""
    for position in range(start, len(messages)):
        if isinstance(messages[position], ExpertMessage):
            return position
    return len(messages)
