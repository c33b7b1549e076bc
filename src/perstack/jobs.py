"""The jobs that this process drives: their tasks, leases, watchers and results."""

from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from logging import getLogger
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from perstack.core.checkpoint import FINISHED_STATUSES, JOB_STATUS_OF, Checkpoint, Job, JobStatus
from perstack.core.elicitation import Question, question_from_call
from perstack.core.history import newest_root
from perstack.core.messages import ExpertMessage, Usage
from perstack.core.transient_events import PerstackEvent, SkillAnswered, SkillAsked
from perstack.core.verification import VerificationResult
from perstack.errors import JobStateError, LeaseLostError, PerstackError, StoreError
from perstack.runtime.elicitations import PendingElicitations, unattended
from perstack.runtime.ports import Clock, Lease, Listener, Store

LOG = getLogger(__name__)
HEARTBEAT_SECONDS = 5.0
STOP_POLL_SECONDS = 1.0
"""Between two polls of the stop requests of other processes."""

SHUTDOWN_REASON = "perstack was shut down"
"""Why jobs are cancelled when the engine closes."""

WATCH_BUFFER = 4096
MAX_RECENT_EVENTS = 8

JobEvent = tuple[PerstackEvent, Checkpoint | None]
"""An event and, if it is one that is stored, the checkpoint that it led to."""

Drive = Callable[["JobHandle", Lease], Awaitable[None]]

JobChange = Literal["began", "moved", "stopped"]
"""The first event of a new job is durable; a further event of a job is; or the job has stopped.

A question of a skill to the user, and its answer, count as `moved`.
"""

JobObserver = Callable[[str, JobChange], None]
"""Receives the id of a job that is driven here, and its change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """The state of a job at one moment.

    Attributes:
        job: Its summary; the status is that of the newest root run.
        checkpoint: The newest checkpoint of that run.
        text: The answer, the error, the open question or the text so far, as the status has it.
        questions: The questions that wait for the user: those with which the expert stopped, or
        those of skill servers in the midst of a call, while the job is running.
        usage: Tokens of all runs.
        runs: The newest checkpoint of each run, in the order in which they began.
    """

    job: Job
    checkpoint: Checkpoint
    text: str
    questions: tuple[Question, ...]
    usage: Usage
    runs: tuple[Checkpoint, ...]

    @property
    def trace_id(self) -> str | None:
        """The id of the trace in which the newest activation can be found."""
        parent = self.checkpoint.trace_parent
        return parent.split("-")[1] if parent else None

    @property
    def verifications(self) -> tuple[VerificationResult, ...]:
        """What was checked when the expert last wanted to complete."""
        return self.checkpoint.verifications

    @property
    def output(self) -> Any:
        """The answer as a value, where the expert declares what it answers; else `None`."""
        return self.checkpoint.output if self.job.status == "completed" else None


def build_view(
    checkpoints: Mapping[str, Checkpoint], *, query: str, status: JobStatus | None = None
) -> JobView:
    """The view of a job from the newest checkpoints of its runs.

    `status` overrides what the newest root run says.
    """
    root = newest_root(checkpoints)
    if root is None:
        raise ValueError("a job has a run that nobody delegated")
    usage = sum((checkpoint.usage for checkpoint in checkpoints.values()), Usage())
    first = min(checkpoint.started_at for checkpoint in checkpoints.values())
    latest = max(checkpoint.updated_at for checkpoint in checkpoints.values())
    state = status or JOB_STATUS_OF[root.status]
    job = Job(
        id=root.job_id,
        status=state,
        coordinator_expert_key=root.expert.key,
        query=query,
        total_steps=max(checkpoint.step_number for checkpoint in checkpoints.values()),
        usage=usage,
        run_count=len(checkpoints),
        started_at=first,
        updated_at=latest,
        finished_at=latest if state in FINISHED_STATUSES else None,
    )
    return JobView(
        job=job,
        checkpoint=root,
        text=_result_text(root),
        questions=_expert_questions(root) if state == "stoppedByInteractiveTool" else (),
        usage=usage,
        runs=tuple(checkpoints.values()),
    )


def _expert_questions(root: Checkpoint) -> tuple[Question, ...]:
    return tuple(question_from_call(call) for call in root.pending("interactive"))


def _result_text(root: Checkpoint) -> str:
    if root.status == "completed":
        return root.text
    if root.error is not None:
        return root.error.message
    expert_texts = [message.text for message in root.messages if isinstance(message, ExpertMessage)]
    return next((text for text in reversed(expert_texts) if text), "")


@dataclass(eq=False, slots=True)
class JobHandle:
    """A job that this process drives, from `start` until it stops."""

    job_id: str
    expert_key: str
    query: str
    checkpoints: dict[str, Checkpoint]
    listeners: list[Listener] = field(default_factory=list[Listener])
    questions: PendingElicitations = field(default_factory=unattended)
    stop_reason: str = "cancelled"
    failure: PerstackError | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    stopped: anyio.Event = field(default_factory=anyio.Event)
    began: anyio.Event = field(default_factory=anyio.Event)
    recent: deque[PerstackEvent] = field(
        default_factory=lambda: deque[PerstackEvent](maxlen=MAX_RECENT_EVENTS)
    )
    _watchers: set[MemoryObjectSendStream[JobEvent]] = field(
        default_factory=set[MemoryObjectSendStream[JobEvent]]
    )

    def publish(self, event: PerstackEvent, checkpoint: Checkpoint | None) -> None:
        """Apply an event and pass it on.

        A watcher that does not keep up loses events rather than slow the job down.
        """
        if checkpoint is not None:
            self.recent.append(event)
            self.checkpoints[checkpoint.run_id] = checkpoint
            self.began.set()
        for listener in self.listeners:
            try:
                listener(event, checkpoint)
            except Exception:  # a listener's bug must not end the job
                LOG.exception("A listener failed on %s", event.type)
        for watcher in self._watchers:
            if watcher.statistics().current_buffer_used < WATCH_BUFFER:
                watcher.send_nowait((event, checkpoint))

    @property
    def open_questions(self) -> tuple[Question, ...]:
        """Questions of skill servers that wait for the user in the middle of a call."""
        return self.questions.open_questions

    @contextmanager
    def watch(self) -> Generator[MemoryObjectReceiveStream[JobEvent]]:
        """Events from now on; the stream ends when the job stops."""
        send, receive = anyio.create_memory_object_stream[JobEvent](WATCH_BUFFER)
        if self.stopped.is_set():
            send.close()
        else:
            self._watchers.add(send)
        try:
            yield receive
        finally:
            self._watchers.discard(send)
            send.close()
            receive.close()

    async def wait(self, seconds: float | None = None) -> JobView:
        """The state of the job once it has stopped, or after `seconds` if that is earlier.

        Raises:
            PerstackError: The job could not be begun, or its store failed.
        """
        with anyio.move_on_after(seconds):
            await self.stopped.wait()
        if not self.began.is_set() and not self.stopped.is_set():
            await self.began.wait()
        return self.view()

    def view(self) -> JobView:
        """The present state of the job.

        Raises:
            PerstackError: The job could not be begun, or its store failed.
        """
        self._raise_failure()
        if self.stopped.is_set():
            return self.final_view()
        current = build_view(self.checkpoints, query=self.query, status="running")
        return replace(current, questions=self.open_questions)

    def final_view(self) -> JobView:
        """The state in which the job has stopped, though its servers may still be ending.

        Raises:
            PerstackError: As for `view`.
        """
        self._raise_failure()
        return build_view(self.checkpoints, query=self.query)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure
        if not self.checkpoints:
            raise JobStateError(f"Job {self.job_id} was stopped before it began.")

    @property
    def is_ending(self) -> bool:
        """Whether only cleanup is left: the job was cancelled, or its root run has stopped."""
        return self.scope.cancel_called or self.has_end

    @property
    def has_end(self) -> bool:
        """Whether the root run has stopped, durably."""
        # Before its first event, a continued job has the checkpoints of its last activation.
        root = newest_root(self.checkpoints) if self.began.is_set() else None
        return root is not None and JOB_STATUS_OF[root.status] != "running"

    @property
    def is_shut_down(self) -> bool:
        """Whether the job was cancelled because its process ends."""
        return self.scope.cancel_called and self.stop_reason == SHUTDOWN_REASON

    def cancel(self, reason: str) -> None:
        """Stop the job at once. It stays resumable."""
        if not self.stopped.is_set():
            self.stop_reason = reason
            self.scope.cancel()

    def finish(self) -> None:
        """Mark the job as stopped and wake all waiters."""
        self.stopped.set()
        self.began.set()
        for watcher in self._watchers:
            watcher.close()


class JobRunner:
    """All jobs that this process drives, each in a task that outlives the request for it."""

    def __init__(self, tasks: TaskGroup, store: Store, clock: Clock) -> None:
        self._tasks = tasks
        self._store = store
        self._clock = clock
        self._live: dict[str, JobHandle] = {}
        self._observers: list[JobObserver] = []
        self._polling_scope: anyio.CancelScope | None = None

    def subscribe(self, observer: JobObserver) -> None:
        self._observers.append(observer)

    @property
    def live(self) -> tuple[JobHandle, ...]:
        return tuple(self._live.values())

    def get(self, job_id: str) -> JobHandle | None:
        return self._live.get(job_id)

    def launch(self, job: JobHandle, lease: Lease, drive: Drive) -> None:
        """Drive a job until it stops.

        The lease is kept alive meanwhile and given back afterwards.
        """
        job.listeners.append(partial(self._observe, job))
        self._live[job.job_id] = job
        if self._polling_scope is None:
            self._polling_scope = anyio.CancelScope()
            self._tasks.start_soon(self._poll_stop_requests, self._polling_scope)
        self._tasks.start_soon(self._run, job, lease, drive, name=f"job {job.job_id}")

    def cancel_all(self, reason: str) -> None:
        """Stop every job; each stays resumable."""
        for job in self.live:
            job.cancel(reason)

    async def _run(self, job: JobHandle, lease: Lease, drive: Drive) -> None:
        try:
            with job.scope:
                await self._run_with_lease(job, lease, drive)
        except Exception as error:  # the border of a job: a bug in one must not end the others
            LOG.exception("Job %s failed", job.job_id)
            job.failure = PerstackError(
                f"Internal error in job {job.job_id}: {type(error).__name__}."
            )
        finally:
            with anyio.CancelScope(shield=True):
                await self._release(lease, job)
            self._live.pop(job.job_id, None)
            if not self._live and self._polling_scope is not None:
                self._polling_scope.cancel()
                self._polling_scope = None
            job.finish()
            self._notify_observers(job, "stopped")

    def _observe(self, job: JobHandle, event: PerstackEvent, checkpoint: Checkpoint | None) -> None:
        if checkpoint is not None:
            is_first = checkpoint.sequence == len(job.checkpoints) == 1
            self._notify_observers(job, "began" if is_first else "moved")
        elif isinstance(event, SkillAsked | SkillAnswered):
            self._notify_observers(job, "moved")

    def _notify_observers(self, job: JobHandle, change: JobChange) -> None:
        for observer in self._observers:
            try:
                observer(job.job_id, change)
            except Exception:  # an observer's bug must not end the job
                LOG.exception("An observer failed on job %s", job.job_id)

    async def _poll_stop_requests(self, while_live: anyio.CancelScope) -> None:
        """Stop the jobs that another process asks to stop."""
        with while_live:
            while True:
                await self._clock.sleep(STOP_POLL_SECONDS)
                try:
                    stop_requests = await self._store.stop_requests()
                except PerstackError as error:
                    LOG.warning("What other processes ask could not be read: %s", error)
                    continue
                for job_id, reason in stop_requests.items():
                    job = self._live.get(job_id)
                    if job is not None:
                        job.cancel(reason)

    async def _run_with_lease(self, job: JobHandle, lease: Lease, drive: Drive) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._renew_lease, job, lease)
            try:
                await drive(job, lease)
            except PerstackError as error:
                # Raised from here, the task group would wrap it.
                job.failure = error
            tasks.cancel_scope.cancel()

    async def _renew_lease(self, job: JobHandle, lease: Lease) -> None:
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            try:
                await self._store.renew(lease)
            except LeaseLostError:
                job.cancel("another process took the job over")
                return
            except PerstackError as error:
                LOG.warning("The lease of job %s could not be renewed: %s", job.job_id, error)

    async def _release(self, lease: Lease, job: JobHandle) -> None:
        is_interrupted = job.is_shut_down or isinstance(job.failure, StoreError)
        try:
            await self._store.release(lease, keep_request=is_interrupted)
        except PerstackError as error:
            LOG.warning("The lease of job %s could not be given back: %s", lease.job_id, error)
