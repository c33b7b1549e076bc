"""What one step of a run came to: an account that its events add up to, for whoever reads them.

Stored events do not repeat it, and a checkpoint has only what the run needs to go on.
"""

from dataclasses import dataclass, field, replace

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import ContinueToNextStep, RunEvent, StartRun, generation_usage
from perstack.core.messages import ExpertMessage, ToolCall, ToolResult, Usage

_BEGINNINGS = frozenset({"startRun", "resumeFromStop"})


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
        next_input_count: The same for the next step, once this one is over.
        is_over: Whether the next event belongs to the next step.
    """

    number: int
    started_at: int
    input_count: int = 0
    first_message: int
    end_message: int
    usage: Usage = field(default_factory=Usage)
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[ToolResult, ...] = ()
    is_resumed: bool = False
    next_input_count: int = 0
    is_over: bool = False


def follow(step: Step | None, event: RunEvent, after: Checkpoint) -> Step:
    """The step after one more event of its run, which led to the checkpoint `after`.

    Args:
        step: That of the event before; `None` if that is not known.
        event: The event.
        after: Its checkpoint.
    """
    if step is None or step.is_over or event.type in _BEGINNINGS:
        step = _begin(step, event, after)
    usage = generation_usage(event)
    if usage is not None and usage.total_tokens:
        step = replace(step, usage=step.usage + usage)
    is_known = (step.tool_calls, step.tool_results) == (after.tool_calls, after.tool_results)
    if after.tool_calls and not is_known:
        step = replace(step, tool_calls=after.tool_calls, tool_results=after.tool_results)
    end = len(after.messages)
    if event.type == "compactHistory":
        return replace(step, first_message=end, end_message=end)
    if isinstance(event, ContinueToNextStep):
        notices = int(event.notice is not None)
        return replace(step, end_message=end - notices, next_input_count=notices, is_over=True)
    return step if step.end_message == end else replace(step, end_message=end)


def _begin(last: Step | None, event: RunEvent, after: Checkpoint) -> Step:
    first, input_count = len(after.messages), 0
    if isinstance(event, StartRun):
        input_count = len(event.input_messages)
    elif event.type not in _BEGINNINGS and last is not None:
        first, input_count = last.end_message + last.next_input_count, last.next_input_count
    elif event.type not in _BEGINNINGS:
        first = _first_message(after)
    return Step(
        number=event.stamp.step_number,
        started_at=event.stamp.timestamp,
        input_count=input_count,
        first_message=first,
        end_message=first,
        is_resumed=event.type == "resumeFromStop",
    )


def _first_message(after: Checkpoint) -> int:
    """The place of the last message of the model: where a process took up a run amid a step."""
    places = range(len(after.messages) - 1, -1, -1)
    found = (place for place in places if isinstance(after.messages[place], ExpertMessage))
    is_amid = bool(after.tool_calls) or after.is_final
    return next(found, len(after.messages)) if is_amid else len(after.messages)


class StepTracker:
    """The present step of each run, while its events come."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def follow(self, event: RunEvent, after: Checkpoint) -> Step:
        """Take in an event and its checkpoint; the step up to it."""
        run_id = after.run_id
        step = self._steps[run_id] = follow(self._steps.get(run_id), event, after)
        return step
