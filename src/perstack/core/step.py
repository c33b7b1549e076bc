"""What one step of a run came to: an account that its events add up to, for whoever reads them.

Stored events do not repeat it, and a checkpoint has only what the run needs to go on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import ContinueToNextStep, RunEvent, StartRun, generation_usage
from perstack.core.history import RecordedEvent
from perstack.core.messages import ExpertMessage, ToolCall, ToolResult, Usage

_BEGINNINGS = frozenset({"startRun", "resumeFromStop", "continueToNextStep"})
TELLING_TYPES = frozenset(
    {
        "callDelegate",
        "callInteractiveTool",
        "completeRun",
        "stopRunByInteractiveTool",
        "stopRunByDelegate",
        "stopRunByExceededMaxSteps",
        "stopRunByExceededBudget",
        "stopRunByError",
        "stopRunByCancellation",
    }
)
"""The types of event that tell what their step came to."""

TELLING_TYPES_IN_FULL = TELLING_TYPES | {"finishToolCall", "continueToNextStep"}
"""Those that do so in the full shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step from its beginning, or from the resumption of its run, up to an event.

    Attributes:
        number: That of the step.
        started_at: Milliseconds since the epoch.
        input_count: How many messages the step was begun with: those of the run, or what the expert
        is told of its budget.
        first_message: The place in the conversation of the first message that the step has added.
        end_message: The place after the last one.
        usage: Tokens of its generations.
        tool_calls: What the model called.
        tool_results: The answers so far.
        is_resumed: Whether it began where a stopped run goes on.
    """

    number: int
    started_at: int
    input_count: int
    first_message: int
    end_message: int
    usage: Usage
    tool_calls: tuple[ToolCall, ...]
    tool_results: tuple[ToolResult, ...]
    is_resumed: bool


class StepTracker:
    """Adds up the present step of each run, while its events come.

    Args:
        is_full: Whether also those events tell a step that do so in the full shape only.
    """

    def __init__(self, *, is_full: bool = False) -> None:
        self._telling = TELLING_TYPES_IN_FULL if is_full else TELLING_TYPES
        self._events_by_run: dict[str, list[RecordedEvent]] = {}

    def follow(self, event: RunEvent, after: Checkpoint) -> Step | None:
        """Take in an event and its checkpoint; the step up to it, if it tells that."""
        recorded = RecordedEvent(event, after)
        events = self._events_by_run.setdefault(after.run_id, [])
        if event.type in _BEGINNINGS:
            self._events_by_run[after.run_id] = [recorded]
        events.append(recorded)
        return _add_up(events) if event.type in self._telling else None


def steps_of(history: Iterable[RecordedEvent]) -> dict[str, Step]:
    """The steps of a job, by the ids of the events that tell them."""
    tracker = StepTracker()
    told = ((event.id, tracker.follow(event, after)) for event, after in history)
    return {event_id: step for event_id, step in told if step is not None}


def _add_up(events: Sequence[RecordedEvent]) -> Step:
    """The step of these events: that which begins it, if it is known, and what came then."""
    begin, after = events[0]
    is_beginning = begin.type in _BEGINNINGS
    first = len(after.messages) if is_beginning else _first_message(after)
    usage = Usage()
    calls, results = after.tool_calls, after.tool_results
    for event, checkpoint in events[is_beginning:]:
        usage += generation_usage(event) or Usage()
        if checkpoint.tool_calls:
            calls, results = checkpoint.tool_calls, checkpoint.tool_results
        if event.type == "compactHistory":
            first = len(checkpoint.messages)
    last, newest = events[-1]
    is_next = isinstance(begin, ContinueToNextStep)
    return Step(
        number=begin.next_step_number if is_next else begin.stamp.step_number,
        started_at=begin.stamp.timestamp,
        input_count=_input_count(begin),
        first_message=first,
        # What the expert is told of its budget belongs to the next step.
        end_message=len(newest.messages) - (_input_count(last) if last is not begin else 0),
        usage=usage,
        tool_calls=calls,
        tool_results=results,
        is_resumed=begin.type == "resumeFromStop",
    )


def _input_count(event: RunEvent) -> int:
    if isinstance(event, StartRun):
        return len(event.input_messages)
    return int(isinstance(event, ContinueToNextStep) and event.notice is not None)


def _first_message(after: Checkpoint) -> int:
    """The place of the last message of the model: where a process took up a run amid a step."""
    places = range(len(after.messages) - 1, -1, -1)
    found = (place for place in places if isinstance(after.messages[place], ExpertMessage))
    is_amid = bool(after.tool_calls) or after.is_final
    return next(found, len(after.messages)) if is_amid else len(after.messages)
