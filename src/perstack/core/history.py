"""From stored events back to checkpoints: of a whole job, or of one moment of it."""

from collections.abc import Mapping, Sequence

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import ResumeFromStop, RunEvent, StartRun
from perstack.core.machine import evolve, fold, origin

Runs = Mapping[str, Sequence[RunEvent]]


def checkpoint_at(runs: Runs, checkpoint_id: str) -> Checkpoint | None:
    """The checkpoint with this id, or `None` if no event of the job led to it."""
    run_id, _, sequence = checkpoint_id.rpartition("-")
    events = runs.get(run_id)
    if events is None or not sequence.isdigit() or not 1 <= int(sequence) <= len(events):
        return None
    return _fold_run(runs, events[: int(sequence)])


def newest_checkpoints(runs: Runs) -> dict[str, Checkpoint]:
    """The newest checkpoint of each run, in the order in which the runs began."""
    return {run_id: _fold_run(runs, events) for run_id, events in runs.items() if events}


def checkpoints_along(runs: Runs, run_id: str) -> list[Checkpoint]:
    """The checkpoint after each event of one run, in order."""
    events = runs[run_id]
    checkpoint = _origin(runs, events[0])
    trail: list[Checkpoint] = []
    for event in events:
        checkpoint = evolve(checkpoint, event)
        trail.append(checkpoint)
    return trail


def _fold_run(runs: Runs, events: Sequence[RunEvent]) -> Checkpoint:
    return fold(_origin(runs, events[0]), events)


def _origin(runs: Runs, first: RunEvent) -> Checkpoint:
    base_id = first.continued_from if isinstance(first, StartRun | ResumeFromStop) else None
    base = checkpoint_at(runs, base_id) if base_id else None
    return origin(first, base)


def newest_root(checkpoints: Mapping[str, Checkpoint]) -> Checkpoint | None:
    """The newest run that nobody delegated: the one that speaks for the job."""
    roots = [checkpoint for checkpoint in checkpoints.values() if checkpoint.delegated_by is None]
    return roots[-1] if roots else None
