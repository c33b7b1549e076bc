"""What the server needs from an engine. `perstack.engine.Engine` satisfies it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from perstack.core.checkpoint import Checkpoint, Job, JobStatus
from perstack.core.events import RunEvent
from perstack.core.passing import PerstackEvent
from perstack.core.questions import Question
from perstack.jobs import JobView, Watched
from perstack.runtime.continuation import JobRequest
from perstack.settings import Settings


class Events(Protocol):
    """The events of a job from now on; ends when the job stops."""

    async def receive(self) -> Watched:
        """The next event.

        Raises:
            anyio.EndOfStream: The job has stopped.
        """
        ...


class ServedJob(Protocol):
    """A job that this process drives."""

    @property
    def job_id(self) -> str:
        """Its id."""
        ...

    @property
    def expert_key(self) -> str:
        """The expert that it was given to."""
        ...

    @property
    def recent(self) -> Sequence[PerstackEvent]:
        """The newest of its events that are stored, oldest first, since it is driven here."""
        ...

    @property
    def open_questions(self) -> tuple[Question, ...]:
        """What skill servers ask the user in the middle of a call."""
        ...

    def watch(self) -> AbstractContextManager[Events]:
        """Its events from now on."""
        ...

    async def wait(self, seconds: float | None = None) -> JobView:
        """How it stands once it has stopped, or after `seconds`.

        Raises:
            PerstackError: It could not be begun, or its store failed.
        """
        ...

    def cancel(self, reason: str) -> None:
        """Stop it at once; it stays resumable."""
        ...


class ServedEngine(Protocol):
    """Starts, continues, finds and stops jobs."""

    @property
    def workspace(self) -> Path:
        """The folder that experts work in."""
        ...

    @property
    def settings(self) -> Settings:
        """What the server decided."""
        ...

    async def start(self, request: JobRequest) -> ServedJob:
        """Begin or continue a job, or join a running one.

        Raises:
            PerstackError: It cannot be done; the message says why.
        """
        ...

    def running(self, job_id: str) -> ServedJob | None:
        """The job, if this process drives it."""
        ...

    async def job(self, job_id: str) -> JobView:
        """How a job stands, whoever drives it.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        ...

    async def jobs(
        self, *, status: JobStatus | None = None, limit: int = 100, offset: int = 0
    ) -> tuple[Job, ...]:
        """Jobs, newest first.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def trail(self, job_id: str) -> Sequence[tuple[RunEvent, Checkpoint]]:
        """The events of a job in the order of writing, each with the checkpoint it led to.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        ...

    async def give_up(self, job_id: str, reason: str) -> JobView:
        """Record that a job is cancelled which waits, or which was left in the middle of its work.

        Raises:
            PerstackError: There is no such job, or a process drives it.
        """
        ...

    async def cancel(self, job_id: str, reason: str) -> JobView:
        """Stop a job; one that has stopped already is left as it is.

        Raises:
            PerstackError: There is no such job, or another process drives it.
        """
        ...
