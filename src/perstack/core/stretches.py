"""The stretches of work on a job: what its root runs did between one stop and the next.

A run that waits for its delegates has not stopped, and one whose process died has not either: it
goes on in the same stretch when it is taken up again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.trail import Step

Stop = (
    ev.CompleteRun
    | ev.StopRunByInteractiveTool
    | ev.StopRunByExceededMaxSteps
    | ev.StopRunByError
    | ev.StopRunByCancellation
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stretch of work.

    Attributes:
        run_id: The root run that worked.
        began_at: Milliseconds since the epoch.
        end: Where the trail goes on after it.
        stop: What ended it. `None` while it goes on, or if a later run took its place.
    """

    run_id: str
    began_at: int
    end: int
    stop: Stop | None


def stretches(trail: Sequence[Step]) -> list[Stretch]:
    """All stretches of a job, in order; only the last one can be going on."""
    found: list[Stretch] = []
    going_on: Stretch | None = None
    for end, (event, checkpoint) in enumerate(trail, start=1):
        if checkpoint.delegated_by is not None:
            continue
        stamp = event.stamp
        if going_on is not None and going_on.run_id != stamp.run_id:
            found.append(going_on)
            going_on = None
        began_at = stamp.timestamp if going_on is None else going_on.began_at
        if isinstance(event, Stop):
            found.append(Stretch(stamp.run_id, began_at, end, event))
            going_on = None
        else:
            going_on = Stretch(stamp.run_id, began_at, end, None)
    if going_on is not None:
        found.append(Stretch(going_on.run_id, going_on.began_at, len(trail), None))
    return found


def checkpoints_at(trail: Sequence[Step], stretch: Stretch) -> dict[str, Checkpoint]:
    """The newest checkpoint of each run as they were at the end of a stretch."""
    return {event.stamp.run_id: checkpoint for event, checkpoint in trail[: stretch.end]}
