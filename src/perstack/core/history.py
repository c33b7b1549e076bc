"""From stored events back to checkpoints: of a whole job, or of one moment of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import ResumeFromStop, RunEvent, StartRun, parse_checkpoint_id
from perstack.core.machine import evolve, fold, initial_checkpoint
from perstack.core.messages import Usage

EventsByRun = Mapping[str, Sequence[RunEvent]]


def checkpoint_at(runs: EventsByRun, checkpoint_id: str) -> Checkpoint | None:
    """The checkpoint with this id, or `None` if no event of the job led to it."""
    run_id, sequence = parse_checkpoint_id(checkpoint_id)
    events = runs.get(run_id)
    if events is None or not sequence.isdigit() or not 1 <= int(sequence) <= len(events):
        return None
    return _fold_run(runs, events[: int(sequence)])


def newest_checkpoints(runs: EventsByRun) -> dict[str, Checkpoint]:
    """The newest checkpoint of each run, in the order in which the runs began."""
    return {run_id: _fold_run(runs, events) for run_id, events in runs.items() if events}


def _fold_run(runs: EventsByRun, events: Sequence[RunEvent]) -> Checkpoint:
    return fold(_initial_checkpoint_of_run(runs, events[0]), events)


def _initial_checkpoint_of_run(runs: EventsByRun, first: RunEvent) -> Checkpoint:
    base_id = first.continued_from if isinstance(first, StartRun | ResumeFromStop) else None
    base = checkpoint_at(runs, base_id) if base_id else None
    return initial_checkpoint(first, base)


def newest_root(checkpoints: Mapping[str, Checkpoint]) -> Checkpoint | None:
    """The newest root run, which represents the job."""
    roots = [checkpoint for checkpoint in checkpoints.values() if checkpoint.delegated_by is None]
    return roots[-1] if roots else None


def usage_of_tree(checkpoints: Mapping[str, Checkpoint], run_id: str) -> tuple[Usage, int]:
    """What a run and all its delegates have used, and their steps."""
    usage, steps = Usage(), 0
    tree: set[str] = {run_id}
    for checkpoint in checkpoints.values():
        parent = checkpoint.delegated_by
        # Delegates begin after the runs that call them, so one pass in that order finds them all.
        if checkpoint.run_id in tree or (parent is not None and parent.run_id in tree):
            tree.add(checkpoint.run_id)
            usage += checkpoint.usage
            steps += checkpoint.own_steps
    return usage, steps


class RecordedEvent(NamedTuple):
    """A stored event and the checkpoint that it led to."""

    event: RunEvent
    checkpoint: Checkpoint


class JobHistory:
    """Grows with the events of one job, in the order in which they were written.

    Attributes:
        recorded_events: What has happened so far.
    """

    def __init__(self, events: Iterable[RunEvent] = ()) -> None:
        self.recorded_events: list[RecordedEvent] = []
        self._checkpoints_by_id: dict[str, Checkpoint] = {}
        self._newest_by_run: dict[str, Checkpoint] = {}
        self.extend(events)

    @property
    def newest_by_run(self) -> Mapping[str, Checkpoint]:
        """The newest checkpoint of each run, in the order in which the runs began."""
        return self._newest_by_run

    def extend(self, events: Iterable[RunEvent]) -> None:
        """Take in what happened next."""
        for event in events:
            run_id = event.stamp.run_id
            before = self._newest_by_run.get(run_id) or initial_checkpoint(
                event, self._base_checkpoint(event)
            )
            after = evolve(before, event)
            self._newest_by_run[run_id] = self._checkpoints_by_id[after.id] = after
            self.recorded_events.append(RecordedEvent(event, after))

    def _base_checkpoint(self, event: RunEvent) -> Checkpoint | None:
        base_id = event.continued_from if isinstance(event, StartRun | ResumeFromStop) else None
        return self._checkpoints_by_id.get(base_id) if base_id else None
