"""The stretches of a record that one activation of its job wrote, as far as the record shows."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.trail import Step

_STOPS = (
    ev.StopRunByInteractiveTool,
    ev.StopRunByExceededMaxSteps,
    ev.StopRunByError,
    ev.StopRunByCancellation,
)


@dataclass(slots=True)
class Segment:
    """What was written between one request and the next, or before and after a crash.

    A crash that no event betrays divides nothing: the run went on as if it had not happened.

    Attributes:
        begins_at: Its place in the record.
        root_run_id: The run that speaks for the job.
        before: The newest checkpoint of each run at the beginning.
        events: What was written, over all runs.
        after: The newest checkpoint of each run at the end.
        parents: The delegating run and its call, by the run that answers it.
        last_words: Ids of the results that were there already when the run was cancelled, and that
        it recorded without going on.
    """

    begins_at: int
    root_run_id: str
    before: dict[str, Checkpoint]
    events: list[ev.RunEvent] = field(default_factory=list[ev.RunEvent])
    after: dict[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])
    parents: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    last_words: set[str] = field(default_factory=set[str])

    @property
    def is_from_outside(self) -> bool:
        """Whether it is a cancellation of a job that nobody drove: no run has decided on it."""
        first = self.events[0]
        before = self.before.get(first.stamp.run_id)
        return isinstance(first, ev.StopRunByCancellation) and is_at_rest(before)

    @property
    def has_ended(self) -> bool:
        """Whether the job stopped by itself; else its process died, or is still at work."""
        return is_at_rest(self.after[self.root_run_id])


def is_at_rest(checkpoint: Checkpoint | None) -> bool:
    """Whether nothing happens to a run any more unless somebody asks for it."""
    return (
        checkpoint is not None and checkpoint.is_final and checkpoint.status != "stoppedByDelegate"
    )


def segments(trail: Sequence[Step]) -> list[Segment]:
    """All of them, in order."""
    cuts: set[int] = set()
    while True:
        found = _divided(trail, cuts)
        hidden = next((cut for cut in map(_hidden_cut, found) if cut is not None), None)
        if hidden is None:
            return found
        cuts.add(hidden)


def _hidden_cut(segment: Segment) -> int | None:
    """Where a crash must have been, although no event tells of it.

    A delegate that stopped is taken up by a later activation only, which begins no sooner than
    right after the stop. And a run takes first the answers that were there from the beginning: if
    another is before them, it was there already when the run was taken up once more.
    """
    children = {call: run_id for run_id, call in segment.parents.items()}
    first_new: dict[str, int] = {}
    stopped: dict[str, int] = {}
    for place, event in enumerate(segment.events):
        run_id = event.stamp.run_id
        if isinstance(event, ev.ResumeFromStop) and run_id in stopped:
            return segment.begins_at + stopped[run_id] + 1
        if isinstance(event, _STOPS):
            stopped[run_id] = place
        if not isinstance(event, ev.RecordToolResult):
            continue
        child = children.get((run_id, event.tool_result.id))
        known = segment.before.get(child) if child else None
        if known is not None and known.status == "completed":
            if run_id in first_new:
                return segment.begins_at + first_new[run_id]
        elif child is not None and place > 0:
            first_new.setdefault(run_id, place)
    return None


def _divided(trail: Sequence[Step], cuts: AbstractSet[int]) -> list[Segment]:
    found: list[Segment] = []
    newest: dict[str, Checkpoint] = {}
    for place, (event, after) in enumerate(trail):
        is_cut = not found or place in cuts
        if is_cut or _divides(found[-1], event, after, newest.get(after.run_id)):
            if found:
                found[-1].after = dict(newest)
            root = after.run_id if after.delegated_by is None else found[-1].root_run_id
            found.append(Segment(begins_at=place, root_run_id=root, before=dict(newest)))
            for checkpoint in newest.values():
                _note_children(found[-1], checkpoint)
        present = found[-1]
        before = newest.get(after.run_id)
        if isinstance(event, ev.StopRunByCancellation) and before is not None:
            present.last_words |= _last_words(before)
        newest[after.run_id] = after
        _note_children(present, after)
        present.events.append(event)
    if found:
        found[-1].after = newest
    return found


def _note_children(segment: Segment, checkpoint: Checkpoint) -> None:
    """Note whose answers a run waits for; a branch waits for those of the run it branches off."""
    for delegation in checkpoint.delegate_to:
        segment.parents[delegation.run_id] = (checkpoint.run_id, delegation.tool_call_id)


def _last_words(before: Checkpoint) -> set[str]:
    """The result that led to this checkpoint, if a run would have gone on from it at once."""
    is_after_result = before.state is State.CALLING_MCP_TOOLS and bool(before.tool_results)
    waits = any(call.id in before.started_tool_calls for call in before.pending_tool_calls)
    return {before.id} if is_after_result and not waits else set()


def _divides(
    present: Segment, event: ev.RunEvent, after: Checkpoint, before: Checkpoint | None
) -> bool:
    if after.delegated_by is not None:
        return False
    if before is None:
        return True
    return is_at_rest(before) and not _is_answered(present, event)


def _is_answered(present: Segment, event: ev.RunEvent) -> bool:
    """Whether the event resumes the run whose question the segment has begun to answer."""
    first = present.events[0]
    return (
        isinstance(event, ev.ResumeFromStop)
        and len(present.events) == 1
        and isinstance(first, ev.RecordToolResult)
        and first.stamp.run_id == event.stamp.run_id
    )
