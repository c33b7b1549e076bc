"""What the events of a job say of a task: how it stood when they were written."""

from collections.abc import Sequence
from dataclasses import dataclass

from perstack.core.events import RunEvent
from perstack.core.stretches import Stretch, checkpoints_at
from perstack.core.trail import Step
from perstack.jobs import RECENT_EVENTS, JobView
from perstack.jobs import view as view_of
from perstack.server.calls.progress import status_line
from perstack.server.tasks.standing import Standing, TaskStatus, Wire, questions_payload


@dataclass(frozen=True, slots=True)
class Past:
    """A task as the events of its job have it.

    Attributes:
        task: Its id.
        trail: What has happened to its job.
        created_at: Milliseconds since the epoch.
        stretch: The stretch of the job that has the task now, or had it last.
    """

    task: str
    trail: Sequence[Step]
    created_at: int
    stretch: Stretch

    @property
    def line(self) -> str:
        """What happened last that is worth a line."""
        end = self.stretch.end
        return status_line([event for event, _ in self.trail[max(0, end - RECENT_EVENTS) : end]])

    @property
    def newest(self) -> RunEvent:
        """The last event of the task so far."""
        return self.trail[self.stretch.end - 1][0]

    def waiting(self) -> Standing:
        """How it stands while it waits for answers of the user."""
        return self.standing("input_required", questions_payload(self.view().questions))

    def standing(
        self, status: TaskStatus, payload: Wire | None = None, message: str = ""
    ) -> Standing:
        """How it stands."""
        return Standing(
            task_id=self.task,
            status=status,
            message=message or self.line,
            created_at=self.created_at,
            updated_at=self.newest.stamp.timestamp,
            payload=payload or {},
        )

    def view(self) -> JobView:
        """Its job as it was at the end of the stretch."""
        return view_of(checkpoints_at(self.trail, self.stretch), query="")
