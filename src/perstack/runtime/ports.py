"""What the runtime needs from the outside, as Protocols with a contract.

Adapters satisfy them by shape; `engine` plugs them in.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import anyio

from perstack.core.checkpoint import Checkpoint, Job, JobStatus
from perstack.core.elicitation import ElicitationReply
from perstack.core.events import RecordToolResult, RunEvent
from perstack.core.messages import (
    Citation,
    FileInlinePart,
    FinishReason,
    ImageInlinePart,
    Message,
    ProviderPart,
    ThinkingPart,
    ToolCall,
    ToolCallPart,
    ToolResult,
    Usage,
)
from perstack.core.tools import ToolDefinition
from perstack.core.transient_events import PerstackEvent
from perstack.core.verification import VerificationResult
from perstack.definition.model import Expert, ModelChoice
from perstack.definition.provider_tools import NO_PROVIDER_TOOLS, ProviderTools
from perstack.definition.verification import Verification


class SystemClock:
    """Satisfies the `Clock` port with the time of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)


def ignore_usage(_usage: Usage) -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One question to a model: the whole conversation and the tools it may call.

    `on_usage` receives the tokens that the provider has reported so far, also if the call fails or
    is cancelled afterwards. `purpose` says whether a step of the expert is asked for, or a summary
    of its conversation; `earlier_replies` counts those that a summary has replaced.
    `provider_tools` are those that the provider calls itself.
    """

    choice: ModelChoice
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...]
    conversation_id: str
    expert_key: str
    on_usage: Callable[[Usage], None] = ignore_usage
    purpose: Literal["step", "summary"] = "step"
    earlier_replies: int = 0
    provider_tools: ProviderTools = NO_PROVIDER_TOOLS


@dataclass(frozen=True, slots=True)
class Generation:
    """A model's whole reply. Any part may be empty.

    `citations` are of the text; `media` are images and files that the model made.
    """

    text: str = ""
    citations: tuple[Citation, ...] = ()
    thinking: tuple[ThinkingPart, ...] = ()
    provider_part: ProviderPart | None = None
    media: tuple[ImageInlinePart | FileInlinePart, ...] = ()
    tool_calls: tuple[ToolCallPart, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    response_id: str | None = None
    response_model: str | None = None
    first_chunk_seconds: float | None = None


class Deltas(Protocol):
    """Receives a reply piece by piece while it is generated. Must not block or raise."""

    def reasoning(self, delta: str) -> None:
        """A piece of thinking."""
        ...

    def text(self, delta: str) -> None:
        """A piece of text."""
        ...


class Model(Protocol):
    """A way to reach language models."""

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        """Ask once; never retry. Streams when `deltas` is given, else takes the reply whole.

        Contract: cancellation stops the request. The key is looked up outside the request and
        appears in no error.

        Raises:
            ModelError: Every failure of the provider or the network, including a timeout; says
            whether it is retryable.
            ConfigError: The key or another setting is missing.
        """
        ...

    def choose(self, expert: Expert) -> ModelChoice:
        """The model for the expert: the caller's choice, else that of its tier, else the file's.

        Immediate: no network, no heavy import.

        Raises:
            ConfigError: No model can be determined, or its key or another setting is missing.
        """
        ...

    def is_ready(self, choice: ModelChoice) -> bool:
        """Whether a generation would wait for nothing but the answer of its provider."""
        ...

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        """Get, off the event loop's thread, what a generation would otherwise wait for.

        Without a choice, that is what every generation needs, and the network stays untouched.

        Raises:
            ModelError: An access token could not be had; says whether that is retryable.
            ConfigError: There are no credentials, or they cannot be used.
        """
        ...

    async def aclose(self) -> None:
        """Give connections back."""
        ...


class Skills(Protocol):
    """The skills of one job.

    Connections are opened when an expert first needs them and shared by all runs of the job.
    """

    async def tools(self, expert: Expert, listener: "SkillListener") -> tuple[ToolDefinition, ...]:
        """Connect what the expert names and return its tools, filtered by `pick` and `omit`.

        Contract: the built-in base skill first, then the file's order; names are unique within one
        expert. Skills of type `interactiveSkill` are included with kind `interactive`; delegates
        are not, they are the runtime's own.

        Raises:
            SkillError: A skill cannot be started; the others that this call started are left usable
            for the job.
        """
        ...

    def tools_version(self, expert: Expert) -> int | None:
        """A number that is another one when `tools` would return others than before.

        Immediate; `None` while that is not known, as before the first call of `tools`.
        """
        ...

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        """Execute one call of kind `mcp`.

        Contract: never raises but for cancellation, which stops the work; everything that goes
        wrong is a result with `is_error`.
        """
        ...

    async def verify(
        self, expert: Expert, verification: Verification, answer: str
    ) -> VerificationResult:
        """Make one check of the workspace, or of what the expert answers.

        Contract: never raises but for cancellation, which stops the work; everything that goes
        wrong is a result that did not pass. A check may be made again after a crash.
        """
        ...


class SkillListener(Protocol):
    """Receives what happens to a run's skills. Must not raise, nor block except in `elicit`."""

    def connecting(self, skill_name: str, skill_type: str) -> AbstractContextManager[None]:
        """Entered around one attempt to connect.

        An exception that passes through marks it failed.
        """
        ...

    def starting(self, skill_name: str, command: str, args: Sequence[str]) -> None:
        """A server process is about to be started."""
        ...

    def connected(
        self, skill_name: str, server_info: dict[str, Any] | None, durations_ms: dict[str, float]
    ) -> None:
        """A skill is ready; durations by phase: spawn, handshake, toolDiscovery, connect, total."""
        ...

    def stderr(self, skill_name: str, line: str) -> None:
        """A server wrote a line to its stderr."""
        ...

    async def elicit(
        self, skill_name: str, message: str, schema: dict[str, Any]
    ) -> ElicitationReply:
        """A server asks the user in the middle of a call; returns what they do.

        Contract: `schema` is a flat form that asks for no secret. Without a client that can answer,
        the form is closed at once.
        """
        ...

    def disconnected(self, skill_name: str) -> None:
        """A connection is closed."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to drive a job.

    `fence` grows with each new owner, so a writer that lost its lease is found out.
    """

    job_id: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job with every event of each of its runs, in the order in which the runs began."""

    job: Job
    runs: dict[str, tuple[RunEvent, ...]]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A job that no process drives, although it has not stopped.

    `takeovers` counts how often in a row it was taken over from a driver that had not given it
    back, as one that died.
    """

    job_id: str
    takeovers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A task, which a client polls instead of waiting for the result of a call.

    Attributes:
        task_id: Unique in the store, and never reused.
        job_id: The job whose result the task will have.
        activation: The number of the activation of the job that the task began with, from 0.
        created_at: Milliseconds since the epoch.
        status: The final status; `None` while the task is open.
        payload: A JSON object that belongs to the final status.
    """

    task_id: str
    job_id: str
    activation: int
    created_at: int
    status: str | None = None
    payload: dict[str, Any] | None = None


class TaskStore(Protocol):
    """Where tasks are durable."""

    async def create_task(self, task: TaskRecord) -> bool:
        """Store an open task; `False` if its id is in use.

        Raises:
            StoreError: The store cannot be written.
        """
        ...

    async def task(self, task_id: str) -> TaskRecord | None:
        """The task with an id, if there is one.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def settle_task(
        self, task_id: str, status: str, payload: dict[str, Any]
    ) -> TaskRecord | None:
        """Give a task its final status, unless it has one already.

        Returns:
            The task as it is stored; `None` if there is none with this id.

        Raises:
            StoreError: The store cannot be written.
        """
        ...


class Store(TaskStore, Protocol):
    """Where events are durable. Several processes may use one store at the same time."""

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        """Write the events in one transaction; they are durable on return.

        The first `startRun` of an unknown job creates it. The accepted request of the job, if
        there is one, is removed in the same transaction.

        Raises:
            LeaseLostError: Another process owns the job now; nothing was written.
            StoreError: The disk is full, read-only or damaged; nothing was written.
        """
        ...

    async def submit_request(self, job_id: str, request: dict[str, Any]) -> None:
        """Accept a request for a job, existing or not yet.

        It is durable on return, and stays until the first event that it leads to is, or the job is
        released.

        Raises:
            JobStateError: A living process owns the job, or another request for it is accepted.
            StoreError: The store cannot be written.
        """
        ...

    async def request(self, job_id: str) -> dict[str, Any] | None:
        """The accepted request of a job, if there is one.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def acquire(self, job_id: str, request: dict[str, Any] | None = None) -> Lease:
        """Become the owner of a job, existing or not yet.

        A `request` is accepted in the same transaction.

        Raises:
            JobStateError: A living process owns it, or another request for it is accepted.
        """
        ...

    async def renew(self, lease: Lease) -> None:
        """Keep the lease for another period.

        Raises:
            LeaseLostError: Another process owns the job now.
        """
        ...

    async def release(self, lease: Lease, *, keep_request: bool = False) -> None:
        """Give the job back, and drop its accepted request unless it is to be driven later.

        A lease that is lost already is ignored.
        """
        ...

    async def request_stop(self, job_id: str, reason: str) -> bool:
        """Leave word for the process that drives a job; `False` if none does.

        Contract: the request holds for the current lease only, not for a later owner.
        """
        ...

    async def stop_requests(self) -> dict[str, str]:
        """The jobs leased by this process that other processes asked to stop, with the reasons.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        """The jobs left before or in the middle of their work after a moment, newest first.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def load(self, job_id: str) -> JobRecord:
        """A job and all its events.

        Raises:
            NotFoundError: There is no such job.
        """
        ...

    async def summary(self, job_id: str) -> Job:
        """A job without its events.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        ...

    async def events(self, job_id: str, after: int = 0) -> tuple[int, tuple[RunEvent, ...]]:
        """The job's events after position `after`, over all runs in the order of writing.

        The number before them is the position of the last one, to be given as `after` next time.

        Raises:
            NotFoundError: There is no such job.
        """
        ...

    async def shortened_results(
        self, job_id: str, tool_call_id: str
    ) -> tuple[RecordToolResult, ...]:
        """The shortened results of calls with this id, with their whole texts.

        Ids are unique within a conversation only, so a job may have several. None if there is no
        such job.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        expert_key: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[Job, ...]:
        """Jobs, newest first."""
        ...


class Clock(Protocol):
    """Time, so that tests can own it."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


Listener = Callable[[PerstackEvent, Checkpoint | None], None]
"""Receives each event once it is durable, with its checkpoint.

Must not block or raise.
"""

NewId = Callable[[], str]
"""Makes a new globally unique id of lower-case letters and digits."""
