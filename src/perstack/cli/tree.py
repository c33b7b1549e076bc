"""The runs of a job drawn like the branches of a history: who called whom, and how each went on.

A line is a stretch of a run, from where it starts or goes on to where it stops. Delegates branch
off below the stretch that calls them, and the next stretch of their caller follows below them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from perstack.cli.history import Entry
from perstack.cli.summary import tokens
from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, CheckpointStatus, JobStatus

_STANDING: dict[CheckpointStatus, str] = {
    "init": "· starting",
    "proceeding": "· working",
    "completed": "✓ completed",
    "stoppedByInteractiveTool": "? waiting for an answer",
    "stoppedByDelegate": "⎇ waiting for delegates",
    "stoppedByExceededMaxSteps": "✗ all steps are used",
    "stoppedByError": "✗ failed",
    "stoppedByCancellation": "✗ cancelled",
}
_PASSED: dict[CheckpointStatus, str] = {
    "stoppedByInteractiveTool": "? asked",
    "stoppedByDelegate": "⎇ delegating",
}
_INTERRUPTED = "✗ interrupted"


@dataclass(slots=True)
class Stretch:
    """A part of a run.

    Attributes:
        note: How it follows on what was before; empty for the first of a run.
        checkpoint: The one that it ended with, or the newest.
        delegates: The runs that it called.
    """

    note: str
    checkpoint: Checkpoint
    delegates: list[ev.Delegation] = field(default_factory=list[ev.Delegation])

    @property
    def is_open(self) -> bool:
        """Whether it has not stopped."""
        return self.checkpoint.status in ("init", "proceeding")


def tree(entries: Sequence[Entry], status: JobStatus) -> list[str]:
    """The runs, line by line.

    Args:
        entries: The events of the job.
        status: Of the job: what has not stopped in a job that is not running was interrupted.
    """
    runs = _runs(entries)
    drawing = _Drawing(runs, is_running=status == "running")
    delegated = {
        delegation.run_id
        for stretches in runs.values()
        for stretch in stretches
        for delegation in stretch.delegates
    }
    return [line for run_id in runs if run_id not in delegated for line in drawing.run(run_id)]


def _runs(entries: Sequence[Entry]) -> dict[str, list[Stretch]]:
    runs: dict[str, list[Stretch]] = {}
    for entry in entries:
        event = entry.event
        stretches = runs.setdefault(event.stamp.run_id, [])
        if isinstance(event, ev.StartRun | ev.ResumeFromStop):
            stretches.append(Stretch(_note(event), entry.checkpoint))
        present = stretches[-1]
        # An answer may be written down between a stop and what follows it; the stop remains.
        if present.is_open:
            present.checkpoint = entry.checkpoint
        if isinstance(event, ev.CallDelegate):
            present.delegates += event.delegate_to
    return runs


def _note(event: ev.StartRun | ev.ResumeFromStop) -> str:
    if isinstance(event, ev.StartRun):
        return " (continued)" if event.continued_from else ""
    return " (branch)" if event.continued_from else " (resumed)"


class _Drawing:
    def __init__(self, runs: dict[str, list[Stretch]], *, is_running: bool) -> None:
        self._runs = runs
        self._is_running = is_running

    def run(self, run_id: str, first: str = "", rest: str = "") -> Iterator[str]:
        """A run and those that it called; `first` and `rest` stand before its lines."""
        stretches = self._runs[run_id]
        for position, stretch in enumerate(stretches):
            is_last = position == len(stretches) - 1
            label = self._label(stretch, position, is_last=is_last)
            yield f"{rest if position else first}● {label}"
            for count, delegation in enumerate(stretch.delegates, start=1):
                goes_on = not is_last or count < len(stretch.delegates)
                fork, trunk = ("├─", "│ ") if goes_on else ("└─", "  ")
                if delegation.run_id in self._runs:
                    yield from self.run(delegation.run_id, rest + fork, rest + trunk)
                else:
                    yield f"{rest}{fork}○ {delegation.expert.key}  · not begun"

    def _label(self, stretch: Stretch, position: int, *, is_last: bool) -> str:
        checkpoint = stretch.checkpoint
        words = [f"{checkpoint.expert.key}{stretch.note}", self._standing(stretch, is_last=is_last)]
        if is_last:
            words.append(tokens(checkpoint.usage))
        if position == 0:
            words.append(f"run {checkpoint.run_id}")
        return "  ".join(words)

    def _standing(self, stretch: Stretch, *, is_last: bool) -> str:
        status = stretch.checkpoint.status
        if stretch.is_open and not self._is_running:
            return _INTERRUPTED
        return _STANDING[status] if is_last else _PASSED.get(status, _STANDING[status])
