"""What the parts of the server share: how it was set up, and where its requests are answered.

A client shall get its list of tools before anything else is even imported. So the handlers of
requests know definitions only, and ask for an `Office`, which opens the engine, for all the rest.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, ElicitResult, InputRequiredResult
from pydantic import ValidationError

from perstack.core.checkpoint import Checkpoint, Job, JobStatus
from perstack.core.elicitation import Question
from perstack.core.events import RunEvent
from perstack.core.transient_events import PerstackEvent
from perstack.definition.model import Definitions, Expert
from perstack.jobs import JobEvent, JobView
from perstack.runtime.start_plan import JobRequest
from perstack.server.caller import Caller, RequestContext, caller_of
from perstack.server.notifications.hub import NotificationHub
from perstack.server.notifications.logging_messages import send_log_message
from perstack.server.resources.uris import ResourceUri
from perstack.server.summaries import Document, JobEntry
from perstack.settings import Settings

LOG = getLogger(__name__)
PublishMode = Literal["coordinators", "all"]

FORM_SECONDS = 3600.0
"""After this time a form counts as closed, so that no request stays open whose user has gone."""


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """One `tools/call` request, with the way back to its caller."""

    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    context: RequestContext
    caller: Caller
    state: str | None = None
    responses: Mapping[str, object] = field(default_factory=dict[str, object])

    async def elicit(self, message: str, schema: dict[str, Any]) -> ElicitResult:
        """Put a question to the user while the request is open, which it is not for ever."""
        session, request_id = self.context.session, self.context.request_id
        try:
            with anyio.move_on_after(FORM_SECONDS):
                return await session.elicit_form(message, schema, request_id)
        except (MCPError, ValidationError) as error:
            LOG.info("The client shows no form: %s", type(error).__name__)
        return ElicitResult(action="cancel")

    async def report(self, progress: float, message: str) -> None:
        """Send a progress notification and a line of the log, if the client wants any."""
        await self.context.session.report_progress(progress, message=message)
        await send_log_message(self.context, message)


def build_tool_call_request(
    context: RequestContext, params: CallToolRequestParams
) -> ToolCallRequest:
    """The request that a handler was given."""
    return ToolCallRequest(
        arguments=params.arguments or {},
        meta=dict(context.meta or {}),
        context=context,
        caller=caller_of(context),
        state=params.request_state,
        responses=params.input_responses or {},
    )


class Counter(Protocol):
    """Where tool calls are answered. Satisfied by `perstack.server.tools.call.ToolCallHandler`."""

    async def call_expert(
        self, expert: Expert, call: ToolCallRequest
    ) -> CallToolResult | InputRequiredResult:
        """Answer a call of an expert's tool, or say what the user must answer first.

        Everything that goes wrong is a result.
        """
        ...

    async def call_job_tool(self, name: str, call: ToolCallRequest) -> CallToolResult:
        """Answer a call of a tool that looks after jobs. Everything that goes wrong is a result."""
        ...


class TaskCounter(Protocol):
    """Answers calls that became tasks. Satisfied by `perstack.server.tasks.service.TaskService`."""

    async def as_task(self, result: CallToolResult) -> CallToolResult | dict[str, Any]:
        """The answer of a call, or a task if it says that its job goes on.

        Raises:
            PerstackError: The job could not be begun, or the store cannot be read.
        """
        ...

    async def get(self, task_id: str, caller: Caller) -> dict[str, Any]:
        """How a task stands.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        ...

    async def update(self, task_id: str, responses: Mapping[str, Any], caller: Caller) -> None:
        """Answer questions of a task. What answers no open question is ignored.

        Raises:
            NotFoundError: There is no such task.
            BadArguments: An answer does not fit its question, which stays open.
            StoreError: The store cannot be read or written.
        """
        ...

    async def cancel(self, task_id: str, caller: Caller) -> None:
        """Stop a task. One that has finished stays as it is.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        ...


class Records(Protocol):
    """Reads jobs as resources; `perstack.server.resources.reader.ResourceReader` does."""

    async def read(self, uri: ResourceUri) -> Document:
        """What is at an address of jobs.

        Raises:
            NotFoundError: Nothing is.
            StoreError: The store cannot be read.
        """
        ...

    async def newest_jobs(self, limit: int) -> tuple[JobEntry, ...]:
        """The newest jobs.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def outline(self, job_id: str) -> str:
        """The events of a job in short, one a line.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        ...

    async def job_ids(self, prefix: str, expert_key: str | None) -> list[str]:
        """The ids that begin with `prefix`, of an expert's jobs or of all.

        They are the newest first, and not those of too long ago.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def checkpoint_ids(self, job_id: str, prefix: str) -> list[str]:
        """The ids that begin with `prefix`, newest first; none if there is no such job.

        Raises:
            StoreError: The store cannot be read.
        """
        ...


class Office(Protocol):
    """Everything that answers the requests of one principal.

    Satisfied by `perstack.server.services.TenantServices`.
    """

    @property
    def tools(self) -> Counter:
        """For tool calls."""
        ...

    @property
    def request_state_key(self) -> bytes:
        """Seals what clients keep between two rounds of questions."""
        ...

    @property
    def tasks(self) -> TaskCounter:
        """For calls that became tasks."""
        ...

    @property
    def resources(self) -> Records: ...


class TenantServicesProvider(Protocol):
    """Finds the office of a caller."""

    async def services_for(self, caller: Caller) -> Office:
        """The office, once it is open.

        Raises:
            PerstackError: It cannot be opened; the message says why.
        """
        ...


@dataclass(slots=True)
class ServerActivity:
    """What the server is doing, for those who wait for it to be idle."""

    tools_listed: anyio.Event = field(default_factory=anyio.Event)
    idle: anyio.Event = field(default_factory=anyio.Event)
    calls_in_flight: int = 0

    def __post_init__(self) -> None:
        self.idle.set()

    @contextmanager
    def track_call(self) -> Generator[None]:
        """Entered around each call."""
        if self.calls_in_flight == 0:
            self.idle = anyio.Event()
        self.calls_in_flight += 1
        try:
            yield
        finally:
            self.calls_in_flight -= 1
            if self.calls_in_flight == 0:
                self.idle.set()


def _no_problems() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """How the server was set up.

    Attributes:
        definitions: The present snapshot, asked for with each request.
        tenants: Where requests are answered.
        problems: What is wrong with an edit of the definition file that was not taken.
        publish: Which experts are tools.
        has_job_tools: Whether there are tools that look after jobs.
        default_wait_seconds: How long a call waits that does not say it. `None` depends on its
        client.
        activity: Is told what the server does.
        notifications: Tells clients what has changed.
        list_ttl_seconds: How long a client may take a list for fresh that says nothing about jobs.
    """

    definitions: Callable[[], Definitions]
    tenants: TenantServicesProvider
    problems: Callable[[], tuple[str, ...]] = _no_problems
    publish: PublishMode = "coordinators"
    has_job_tools: bool = True
    default_wait_seconds: float | None = None
    activity: ServerActivity = field(default_factory=ServerActivity)
    notifications: NotificationHub = field(default_factory=NotificationHub)
    list_ttl_seconds: int = 0


class Events(Protocol):
    """The events of a job from now on; ends when the job stops."""

    async def receive(self) -> JobEvent:
        """The next event.

        Raises:
            anyio.EndOfStream: The job has stopped.
        """
        ...


class ServedJob(Protocol):
    """A job that this process drives."""

    @property
    def job_id(self) -> str: ...

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

    def watch(self) -> AbstractContextManager[Events]: ...

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

    async def history(self, job_id: str) -> Sequence[tuple[RunEvent, Checkpoint]]:
        """The events of a job in the order of writing, each with the checkpoint it led to.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        ...

    async def mark_cancelled(self, job_id: str, reason: str) -> JobView:
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
