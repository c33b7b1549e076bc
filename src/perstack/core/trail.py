"""The course of a whole job: every event of all its runs, each with the checkpoint it led to."""

from collections.abc import Iterable, Mapping

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import ResumeFromStop, RunEvent, StartRun
from perstack.core.machine import evolve, origin

Step = tuple[RunEvent, Checkpoint]


class Trail:
    """Grows with the events of one job, in the order in which they were written.

    Attributes:
        steps: What has happened so far.
    """

    def __init__(self, events: Iterable[RunEvent] = ()) -> None:
        self.steps: list[Step] = []
        self._checkpoints: dict[str, Checkpoint] = {}
        self._newest: dict[str, Checkpoint] = {}
        self.extend(events)

    @property
    def newest(self) -> Mapping[str, Checkpoint]:
        """The newest checkpoint of each run, in the order in which the runs began."""
        return self._newest

    def extend(self, events: Iterable[RunEvent]) -> None:
        """Take in what happened next."""
        for event in events:
            run_id = event.stamp.run_id
            before = self._newest.get(run_id) or origin(event, self._base(event))
            after = evolve(before, event)
            self._newest[run_id] = self._checkpoints[after.id] = after
            self.steps.append((event, after))

    def _base(self, event: RunEvent) -> Checkpoint | None:
        base_id = event.continued_from if isinstance(event, StartRun | ResumeFromStop) else None
        return self._checkpoints.get(base_id) if base_id else None
