"""What the parts of the server share: how it was set up, and where its requests are answered.

A client shall get its list of tools before anything else is even imported. So the handlers of
requests know definitions only, and ask for an `Office`, which opens the engine, for all the rest.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any, Literal, Protocol

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, ElicitResult, InputRequiredResult
from pydantic import ValidationError

from perstack.definition.model import Definitions, Expert
from perstack.server.caller import Caller, Context, caller_of
from perstack.server.changes.changes import Changes
from perstack.server.changes.logs import log_line
from perstack.server.reading.addresses import Address
from perstack.server.reading.documents import Document, JobEntry

LOG = getLogger(__name__)
Publish = Literal["coordinators", "all"]

FORM_SECONDS = 3600.0
"""After this time a form counts as closed, so that no request stays open whose user has gone."""


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """One `tools/call` request, with the way back to its caller."""

    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    context: Context
    caller: Caller
    state: str | None = None
    responses: Mapping[str, object] = field(default_factory=dict[str, object])

    async def elicit(self, message: str, schema: dict[str, Any]) -> ElicitResult:
        """Put a question to the user while the request is open, which it is not for ever."""
        session, related = self.context.session, self.context.request_id
        try:
            with anyio.move_on_after(FORM_SECONDS):
                return await session.elicit_form(message, schema, related)
        except (MCPError, ValidationError) as error:
            LOG.info("The client shows no form: %s", type(error).__name__)
        return ElicitResult(action="cancel")

    async def report(self, progress: float, message: str) -> None:
        """Send a progress notification and a line of the log, if the client wants any."""
        await self.context.session.report_progress(progress, message=message)
        await log_line(self.context, message)


def tool_call(context: Context, params: CallToolRequestParams) -> ToolCallRequest:
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
    """Where tool calls are answered. Satisfied by `perstack.server.calls.desk.Desk`."""

    async def ask(
        self, expert: Expert, call: ToolCallRequest
    ) -> CallToolResult | InputRequiredResult:
        """Answer a call of an expert's tool, or say what the user must answer first.

        Everything that goes wrong is a result.
        """
        ...

    async def look_after(self, name: str, call: ToolCallRequest) -> CallToolResult:
        """Answer a call of a tool that looks after jobs. Everything that goes wrong is a result."""
        ...


class TaskCounter(Protocol):
    """Where calls that became tasks are answered, by `perstack.server.tasks.tasks.Tasks`."""

    async def instead(self, answer: CallToolResult) -> CallToolResult | dict[str, Any]:
        """The answer of a call, or a task if it says that its job goes on.

        Raises:
            PerstackError: The job could not be begun, or the store cannot be read.
        """
        ...

    async def get(self, task: str, caller: Caller) -> dict[str, Any]:
        """How a task stands.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        ...

    async def update(self, task: str, responses: Mapping[str, Any], caller: Caller) -> None:
        """Answer questions of a task. What answers no open question is ignored.

        Raises:
            NotFoundError: There is no such task.
            BadArguments: An answer does not fit its question, which stays open.
            StoreError: The store cannot be read or written.
        """
        ...

    async def cancel(self, task: str, caller: Caller) -> None:
        """Stop a task. One that has finished stays as it is.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        ...


class Records(Protocol):
    """What jobs have left behind. Satisfied by `perstack.server.reading.archive.Archive`."""

    async def read(self, address: Address) -> Document:
        """What is at an address of jobs.

        Raises:
            NotFoundError: Nothing is.
            StoreError: The store cannot be read.
        """
        ...

    async def newest(self, limit: int) -> tuple[JobEntry, ...]:
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

    Satisfied by `perstack.server.users.office.EngineOffice`.
    """

    @property
    def desk(self) -> Counter:
        """For tool calls."""
        ...

    @property
    def seal_key(self) -> bytes:
        """Seals what clients keep between two rounds of questions."""
        ...

    @property
    def tasks(self) -> TaskCounter:
        """For calls that became tasks."""
        ...

    @property
    def archive(self) -> Records:
        """For resources."""
        ...


class Offices(Protocol):
    """Finds the office of a caller."""

    async def office(self, caller: Caller) -> Office:
        """The office, once it is open.

        Raises:
            PerstackError: It cannot be opened; the message says why.
        """
        ...


@dataclass(slots=True)
class Activity:
    """What the server is doing, for those who wait for it to be idle."""

    listed: anyio.Event = field(default_factory=anyio.Event)
    idle: anyio.Event = field(default_factory=anyio.Event)
    calls: int = 0

    def __post_init__(self) -> None:
        self.idle.set()

    @contextmanager
    def call(self) -> Generator[None]:
        """Entered around each call."""
        if self.calls == 0:
            self.idle = anyio.Event()
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1
            if self.calls == 0:
                self.idle.set()


def _no_problems() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """How the server was set up.

    Attributes:
        definitions: The present snapshot, asked for with each request.
        offices: Where requests are answered.
        problems: What is wrong with an edit of the definition file that was not taken.
        publish: Which experts are tools.
        has_job_tools: Whether there are tools that look after jobs.
        default_wait_seconds: How long a call waits that does not say it. `None` depends on its
        client.
        activity: Is told what the server does.
        changes: Tells clients what has changed.
        list_seconds: How long a client may take a list for fresh that says nothing about jobs.
    """

    definitions: Callable[[], Definitions]
    offices: Offices
    problems: Callable[[], tuple[str, ...]] = _no_problems
    publish: Publish = "coordinators"
    has_job_tools: bool = True
    default_wait_seconds: float | None = None
    activity: Activity = field(default_factory=Activity)
    changes: Changes = field(default_factory=Changes)
    list_seconds: int = 0
