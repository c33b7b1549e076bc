"""The runs of a job as a tree of callers and delegates.

A line is a segment of a run, from a start or resumption to a stop. Delegates branch
off below the segment that calls them, and the next segment of their caller follows below them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from perstack.cli.formatting import format_usage
from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, CheckpointStatus, JobStatus
from perstack.core.history import RecordedEvent

_STATUS_LABELS: dict[CheckpointStatus, str] = {
    "init": "· starting",
    "proceeding": "· working",
    "completed": "✓ completed",
    "stoppedByInteractiveTool": "? waiting for an answer",
    "stoppedByDelegate": "⎇ waiting for delegates",
    "stoppedByExceededMaxSteps": "✗ all steps are used",
    "stoppedByExceededBudget": "✗ the budget is used up",
    "stoppedByError": "✗ failed",
    "stoppedByCancellation": "✗ cancelled",
}
_PAST_STATUS_LABELS: dict[CheckpointStatus, str] = {
    "stoppedByInteractiveTool": "? asked",
    "stoppedByDelegate": "⎇ delegating",
}
_INTERRUPTED_LABEL = "✗ interrupted"


@dataclass(slots=True)
class RunSegment:
    """A part of a run.

    Attributes:
        start_note: How it continues what was before; empty for the first of a run.
        checkpoint: The one that it ended with, or the newest.
        delegates: The runs that it called.
    """

    start_note: str
    checkpoint: Checkpoint
    delegates: list[ev.Delegation] = field(default_factory=list[ev.Delegation])

    @property
    def is_open(self) -> bool:
        """Whether it has not stopped."""
        return self.checkpoint.status in ("init", "proceeding")


def tree_lines(entries: Sequence[RecordedEvent], status: JobStatus) -> list[str]:
    """The runs, line by line.

    Args:
        entries: The events of the job.
        status: Of the job: what has not stopped in a job that is not running was interrupted.
    """
    runs = _segments_by_run(entries)
    renderer = _TreeRenderer(runs, is_running=status == "running")
    delegated_run_ids = {
        delegation.run_id
        for segments in runs.values()
        for segment in segments
        for delegation in segment.delegates
    }
    return [
        line
        for run_id in runs
        if run_id not in delegated_run_ids
        for line in renderer.run_lines(run_id)
    ]


def _segments_by_run(entries: Sequence[RecordedEvent]) -> dict[str, list[RunSegment]]:
    runs: dict[str, list[RunSegment]] = {}
    for entry in entries:
        event = entry.event
        segments = runs.setdefault(event.stamp.run_id, [])
        if isinstance(event, ev.StartRun | ev.ResumeFromStop):
            segments.append(RunSegment(_start_note(event), entry.checkpoint))
        current = segments[-1]
        # An answer may be written down between a stop and what follows it; the stop remains.
        if current.is_open:
            current.checkpoint = entry.checkpoint
        if isinstance(event, ev.CallDelegate):
            current.delegates += event.delegate_to
    return runs


def _start_note(event: ev.StartRun | ev.ResumeFromStop) -> str:
    if isinstance(event, ev.StartRun):
        return " (continued)" if event.continued_from else ""
    return " (branch)" if event.continued_from else " (resumed)"


class _TreeRenderer:
    def __init__(self, runs: dict[str, list[RunSegment]], *, is_running: bool) -> None:
        self._runs = runs
        self._is_running = is_running

    def run_lines(self, run_id: str, first_prefix: str = "", prefix: str = "") -> Iterator[str]:
        """A run and those that it called; `first_prefix` and `prefix` stand before its lines."""
        segments = self._runs[run_id]
        for position, segment in enumerate(segments):
            is_last = position == len(segments) - 1
            label = self._label(segment, position, is_last=is_last)
            yield f"{prefix if position else first_prefix}● {label}"
            for count, delegation in enumerate(segment.delegates, start=1):
                has_more = not is_last or count < len(segment.delegates)
                fork, trunk = ("├─", "│ ") if has_more else ("└─", "  ")
                if delegation.run_id in self._runs:
                    yield from self.run_lines(delegation.run_id, prefix + fork, prefix + trunk)
                else:
                    yield f"{prefix}{fork}○ {delegation.expert.key}  · not begun"

    def _label(self, segment: RunSegment, position: int, *, is_last: bool) -> str:
        checkpoint = segment.checkpoint
        words = [
            f"{checkpoint.expert.key}{segment.start_note}",
            self._status_label(segment, is_last=is_last),
        ]
        if is_last:
            words.append(format_usage(checkpoint.usage))
        if position == 0:
            words.append(f"run {checkpoint.run_id}")
        return "  ".join(words)

    def _status_label(self, segment: RunSegment, *, is_last: bool) -> str:
        status = segment.checkpoint.status
        if segment.is_open and not self._is_running:
            return _INTERRUPTED_LABEL
        return (
            _STATUS_LABELS[status]
            if is_last
            else _PAST_STATUS_LABELS.get(status, _STATUS_LABELS[status])
        )
