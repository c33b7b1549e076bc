"""The MCP server: which tools there are, and where their calls go.

Listing tools needs the definitions only. Whoever answers the calls comes in as a `Counter`, so that
the engine behind it may still be opening while a client lists.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import anyio
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from perstack import __version__
from perstack.definition.model import Definitions, Expert
from perstack.server.schemas import DEFAULT_WAIT_SECONDS
from perstack.server.tools import (
    RESERVED,
    Publish,
    expert_tools,
    instructions,
    job_tools,
    published,
)

Context = ServerRequestContext[dict[str, Any]]


class Counter(Protocol):
    """Where calls are answered. Satisfied by `perstack.server.desk.Desk`."""

    async def ask(self, expert: Expert, call: "ToolCallRequest") -> CallToolResult:
        """Answer a call of an expert's tool. Everything that goes wrong is a result."""
        ...

    async def look_after(self, name: str, call: "ToolCallRequest") -> CallToolResult:
        """Answer a call of a tool that looks after jobs. Everything that goes wrong is a result."""
        ...


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """One `tools/call` request, with the way back to its caller."""

    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    context: Context

    async def report(self, progress: float, message: str) -> None:
        """Send a progress notification, if the client wants any."""
        await self.context.session.report_progress(progress, message=message)


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


def build_server(
    definitions: Callable[[], Definitions],
    counter: Counter,
    *,
    publish: Publish = "coordinators",
    has_job_tools: bool = True,
    default_wait_seconds: float = DEFAULT_WAIT_SECONDS,
    activity: Activity | None = None,
) -> Server[dict[str, Any]]:
    """A server for both protocol eras and any transport.

    Args:
        definitions: The present snapshot, asked for with each request.
        counter: Answers the calls.
        publish: Which experts are tools.
        has_job_tools: Whether there are tools that look after jobs.
        default_wait_seconds: How long a call waits that does not say it.
        activity: Is told what the server does.
    """
    activity = activity or Activity()

    async def list_tools(
        _context: Context, _params: PaginatedRequestParams | None
    ) -> ListToolsResult:
        present = definitions()
        experts = published(present, publish)
        tools = expert_tools(experts, present, default_wait_seconds, has_job_tools=has_job_tools)
        if has_job_tools:
            tools += job_tools(default_wait_seconds)
        activity.listed.set()
        return ListToolsResult(tools=tools)

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        call = ToolCallRequest(params.arguments or {}, dict(context.meta or {}), context)
        with activity.call():
            if has_job_tools and params.name in RESERVED:
                return await counter.look_after(params.name, call)
            experts = published(definitions(), publish)
            return await counter.ask(_find(experts, params.name), call)

    return Server(
        "perstack",
        version=__version__,
        title="Perstack",
        instructions=instructions(has_job_tools=has_job_tools),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def _find(experts: Mapping[str, Expert], name: str) -> Expert:
    expert = experts.get(name)
    if expert is None:
        known = ", ".join(experts) or "none"
        raise MCPError(
            code=INVALID_PARAMS, message=f"Unknown tool {name[:60]!r}. The experts are: {known}."
        )
    return expert
