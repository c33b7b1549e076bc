"""The stretches of a record that one activation of its job wrote, as far as the record shows."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.history import RecordedEvent

StopEvent = (
    ev.CompleteRun
    | ev.StopRunByInteractiveTool
    | ev.StopRunByExceededMaxSteps
    | ev.StopRunByExceededBudget
    | ev.StopRunByError
    | ev.StopRunByCancellation
)


@dataclass(frozen=True, slots=True)
class JobActivation:
    """One stretch of work.

    Attributes:
        run_id: The root run that worked.
        started_at: Milliseconds since the epoch.
        end_index: The index in the history after its last event.
        stop_event: What ended it. `None` while it runs, or if a later run superseded it.
    """

    run_id: str
    started_at: int
    end_index: int
    stop_event: StopEvent | None


def split_into_activations(history: Sequence[RecordedEvent]) -> list[JobActivation]:
    """All activations of a job, in order; only the last one can still run."""
    activations: list[JobActivation] = []
    current: JobActivation | None = None
    for end, (event, checkpoint) in enumerate(history, start=1):
        if checkpoint.delegated_by is not None:
            continue
        stamp = event.stamp
        if current is not None and current.run_id != stamp.run_id:
            activations.append(current)
            current = None
        started_at = stamp.timestamp if current is None else current.started_at
        if isinstance(event, StopEvent):
            activations.append(JobActivation(stamp.run_id, started_at, end, event))
            current = None
        else:
            current = JobActivation(stamp.run_id, started_at, end, None)
    if current is not None:
        activations.append(JobActivation(current.run_id, current.started_at, len(history), None))
    return activations


def checkpoints_at_end(
    history: Sequence[RecordedEvent], activation: JobActivation
) -> dict[str, Checkpoint]:
    """The newest checkpoint of each run as they were at the end of a stretch."""
    return {event.stamp.run_id: checkpoint for event, checkpoint in history[: activation.end_index]}


_STOPS = (
    ev.StopRunByInteractiveTool,
    ev.StopRunByExceededMaxSteps,
    ev.StopRunByExceededBudget,
    ev.StopRunByError,
    ev.StopRunByCancellation,
)


@dataclass(slots=True)
class ActivationSegment:
    """What one activation wrote: the work of one process on a job, until it stopped or died.

    Events of older versions do not say to which activation they belong. It is derived from their
    order, and a crash that left no trace there divides nothing.

    Attributes:
        activation_id: As its events have it, if they do.
        start_index: Its place in the record.
        root_run_id: The run that speaks for the job.
        before: The newest checkpoint of each run at the beginning.
        events: What was written, over all runs.
        after: The newest checkpoint of each run at the end.
        parents: The delegating run and its call, by the run that answers it.
        results_before_cancel: Ids of the results that had arrived when the run was cancelled, and
        that it recorded without another step.
    """

    activation_id: str | None
    start_index: int
    root_run_id: str
    before: dict[str, Checkpoint]
    events: list[ev.RunEvent] = field(default_factory=list[ev.RunEvent])
    after: dict[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    parents: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    results_before_cancel: set[str] = field(default_factory=set[str])

    @property
    def is_external_cancellation(self) -> bool:
        """Whether it is the cancellation of a job without a driver, which no run decided."""
        first = self.events[0]
        before = self.before.get(first.stamp.run_id)
        is_alone = len(self.events) == 1 or is_idle(before)
        return isinstance(first, ev.StopRunByCancellation) and is_alone

    @property
    def has_ended(self) -> bool:
        """Whether the job stopped by itself; else its process died, or is still at work."""
        return is_idle(self.after[self.root_run_id])


def is_idle(checkpoint: Checkpoint | None) -> bool:
    """Whether a run has stopped and continues on request only."""
    return (
        checkpoint is not None and checkpoint.is_final and checkpoint.status != "stoppedByDelegate"
    )


def split_into_segments(history: Sequence[RecordedEvent]) -> list[ActivationSegment]:
    """All of them, in order."""
    cuts: set[int] = set()
    while True:
        parts = _split_at(history, cuts)
        crash_index = next(
            (cut for cut in map(_find_unrecorded_crash, parts) if cut is not None), None
        )
        if crash_index is None:
            return parts
        cuts.add(crash_index)


def _find_unrecorded_crash(segment: ActivationSegment) -> int | None:
    """Where a crash must have been, although no event records it.

    A stopped delegate is resumed by a later activation only, which begins no sooner than
    right after the stop. And a run takes first the answers that were there from the beginning: if
    another is before them, it existed already when the run was resumed.
    """
    if segment.activation_id is not None:
        return None
    children = {call: run_id for run_id, call in segment.parents.items()}
    first_new_result: dict[str, int] = {}
    stop_index: dict[str, int] = {}
    for index, event in enumerate(segment.events):
        run_id = event.stamp.run_id
        if isinstance(event, ev.ResumeFromStop) and run_id in stop_index:
            return segment.start_index + stop_index[run_id] + 1
        if isinstance(event, _STOPS):
            stop_index[run_id] = index
        if not isinstance(event, ev.RecordToolResult):
            continue
        child = children.get((run_id, event.tool_result.id))
        child_before = segment.before.get(child) if child else None
        if child_before is not None and child_before.status == "completed":
            if run_id in first_new_result:
                return segment.start_index + first_new_result[run_id]
        elif child is not None and index > 0:
            first_new_result.setdefault(run_id, index)
    return None


def _split_at(history: Sequence[RecordedEvent], cuts: AbstractSet[int]) -> list[ActivationSegment]:
    parts: list[ActivationSegment] = []
    newest: dict[str, Checkpoint] = {}
    for index, (event, after) in enumerate(history):
        is_cut = not parts or index in cuts
        if is_cut or _starts_segment(parts[-1], event, after, newest.get(after.run_id)):
            if parts:
                parts[-1].after = dict(newest)
            root = after.run_id if after.delegated_by is None else parts[-1].root_run_id
            parts.append(ActivationSegment(event.activation_id, index, root, before=dict(newest)))
            for checkpoint in newest.values():
                _register_children(parts[-1], checkpoint)
        current = parts[-1]
        before = newest.get(after.run_id)
        if isinstance(event, ev.StopRunByCancellation) and before is not None:
            current.results_before_cancel |= _results_before_cancel(before)
        newest[after.run_id] = after
        _register_children(current, after)
        current.events.append(event)
    if parts:
        parts[-1].after = newest
    return parts


def _register_children(segment: ActivationSegment, checkpoint: Checkpoint) -> None:
    """Note whose answers a run waits for; a branch waits for those of the run it branches off."""
    for delegation in checkpoint.delegate_to:
        segment.parents[delegation.run_id] = (checkpoint.run_id, delegation.tool_call_id)


def _results_before_cancel(before: Checkpoint) -> set[str]:
    """The result that led to this checkpoint, if a run would have gone on from it at once."""
    is_after_result = before.state is State.CALLING_MCP_TOOLS and bool(before.tool_results)
    has_open_calls = any(call.id in before.started_tool_calls for call in before.pending_tool_calls)
    return {before.id} if is_after_result and not has_open_calls else set()


def _starts_segment(
    current: ActivationSegment, event: ev.RunEvent, after: Checkpoint, before: Checkpoint | None
) -> bool:
    if event.activation_id is not None or current.activation_id is not None:
        return event.activation_id not in (None, current.activation_id)
    if after.delegated_by is not None:
        return False
    if before is None:
        return True
    return is_idle(before) and not _resumes_answered_run(current, event)


def _resumes_answered_run(current: ActivationSegment, event: ev.RunEvent) -> bool:
    """Whether the event resumes the run whose question the segment has begun to answer."""
    first = current.events[0]
    return (
        isinstance(event, ev.ResumeFromStop)
        and len(current.events) == 1
        and isinstance(first, ev.RecordToolResult)
        and first.stamp.run_id == event.stamp.run_id
    )
