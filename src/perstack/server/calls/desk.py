"""Answers calls of tools: reads what was given, and says how the job stands that came of it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from mcp_types import CallToolResult, InputRequiredResult
from opentelemetry import trace

from perstack.core.checkpoint import JobStatus
from perstack.definition.model import Expert
from perstack.errors import NotFoundError, PerstackError
from perstack.jobs import JobView
from perstack.runtime.continuation import JobRequest
from perstack.server.calls import schemas
from perstack.server.calls.arguments import BadArguments, checked
from perstack.server.calls.excerpts import room_for
from perstack.server.calls.interact import round_of
from perstack.server.calls.results import STATUS_OF, error_result, job_result, jobs_result
from perstack.server.calls.tools import CANCEL, JOB, JOBS
from perstack.server.calls.typed import arguments_of
from perstack.server.calls.visit import CLIENT_CANCELLED, Outcome, Visit, Visitor
from perstack.server.calls.waiting import Progress, Rhythm, follow
from perstack.server.calls.windows import Windows
from perstack.server.port import ServedEngine
from perstack.telemetry.propagation import annotate_call

CLIENT_IDS = {
    "claudecode/toolUseId": "perstack.client.tool_use_id",
    "threadId": "perstack.client.thread_id",
}
MAX_CLIENT_ID = 128


class Call(Visitor, Protocol):
    """One `tools/call` request."""

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What was given."""
        ...

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the client says about itself."""
        ...

    @property
    def state(self) -> str | None:
        """What an earlier answer handed to the client, if the call is made again."""
        ...

    @property
    def responses(self) -> Mapping[str, object]:
        """What the user did with the questions of an earlier answer, by the id of the question."""
        ...


class Desk:
    """Answers the calls of one server.

    Args:
        engine: Where the jobs are.
        windows: How long a call waits for its job.
        has_job_tools: Whether callers have the tools that look after jobs.
        transport: `pipe` for stdio, `tcp` for HTTP.
        rhythm: How often to look and to report.
    """

    def __init__(
        self,
        engine: ServedEngine,
        *,
        windows: Windows,
        has_job_tools: bool = True,
        transport: str = "pipe",
        rhythm: Rhythm | None = None,
    ) -> None:
        self._engine = engine
        self._windows = windows
        self._has_job_tools = has_job_tools
        self._transport = transport
        self._rhythm = rhythm or Rhythm()
        self._job_tools: dict[str, Callable[[Call], Awaitable[CallToolResult]]] = {
            JOB: self._wait,
            JOBS: self._list,
            CANCEL: self._cancel,
        }

    async def ask(self, expert: Expert, call: Call) -> CallToolResult | InputRequiredResult:
        """Answer a call of an expert's tool."""
        _annotate_client(call.meta)
        visit: Visit | None = None
        try:
            asked = arguments_of(expert, call.arguments, self._windows.advertised_seconds)
            seconds = self._windows.seconds(call.caller, asked.common.get("wait_seconds"))
            visit = self._visit(expert, call, seconds)
            earlier = round_of(call.state) if call.caller.is_modern else None
            if earlier is None:
                before = await self._query_of(asked.common["job_id"]) if asked.may_repeat else ""
                request = _request(expert, asked.common, asked.words(before))
                return self._result(await visit.serve(request, call.responses), call)
            return self._result(await visit.serve_again(earlier, call.responses), call)
        except PerstackError as error:
            known = None if visit is None else visit.job_id
            return error_result(self._in_words(error, call), known)

    async def _query_of(self, job_id: str) -> str:
        return (await self._engine.job(job_id)).job.query

    async def look_after(self, name: str, call: Call) -> CallToolResult:
        """Answer a call of a tool that looks after jobs."""
        _annotate_client(call.meta)
        try:
            return await self._job_tools[name](call)
        except PerstackError as error:
            return error_result(self._in_words(error, call))

    async def _wait(self, call: Call) -> CallToolResult:
        given = checked(call.arguments, schemas.job_input(self._windows.advertised_seconds))
        seconds = self._windows.looking_seconds(call.caller, given.get("wait_seconds"))
        self._annotate(given["job_id"])
        progress = Progress(call.report, self._rhythm.heartbeat_seconds)
        poll_seconds = self._rhythm.poll_seconds
        view = await follow(self._engine, given["job_id"], seconds, progress, poll_seconds)
        return self._described(view, call, given.get("offset", 0))

    async def _list(self, call: Call) -> CallToolResult:
        given = checked(call.arguments, schemas.JOBS_INPUT)
        status = _stored_status(given["status"]) if "status" in given else None
        return jobs_result(await self._engine.jobs(status=status, limit=given.get("limit", 20)))

    async def _cancel(self, call: Call) -> CallToolResult:
        job_id: str = checked(call.arguments, schemas.CANCEL_INPUT)["job_id"]
        self._annotate(job_id)
        return self._described(await self._engine.cancel(job_id, CLIENT_CANCELLED), call)

    def _visit(self, expert: Expert, call: Call, seconds: float) -> Visit:
        return Visit(
            self._engine,
            expert,
            call,
            seconds=seconds,
            rhythm=self._rhythm,
            on_known=self._annotate,
        )

    def _result(self, outcome: Outcome, call: Call) -> CallToolResult | InputRequiredResult:
        if isinstance(outcome, InputRequiredResult):
            return outcome
        return self._described(outcome, call)

    def _described(self, view: JobView, call: Call, offset: int = 0) -> CallToolResult:
        room = room_for(call.caller.client_name)
        has_job_tools = self._has_job_tools_for(call)
        return job_result(view, offset=offset, has_job_tools=has_job_tools, room=room)

    def _has_job_tools_for(self, call: Call) -> bool:
        return self._has_job_tools and call.caller.may_read_jobs

    def _in_words(self, error: PerstackError, call: Call) -> PerstackError:
        """An error with a hint that helps the caller, who has no command line."""
        if isinstance(error, NotFoundError):
            hint = f"{JOBS} lists the jobs." if self._has_job_tools_for(call) else None
            return NotFoundError(error.message, hint=hint)
        return error

    def _annotate(self, job_id: str) -> None:
        annotate_call(job_id=job_id, transport=self._transport)


def _request(expert: Expert, common: Mapping[str, Any], query: str) -> JobRequest:
    job_id: str | None = common.get("job_id")
    checkpoint_id: str | None = common.get("checkpoint_id")
    if job_id is None and checkpoint_id is not None:
        raise BadArguments("checkpoint_id needs the job_id that it belongs to.")
    if job_id is None and not query.strip():
        raise BadArguments("query is empty.", hint="Say what the expert shall do.")
    return JobRequest(
        expert_key=expert.key,
        query=query,
        job_id=job_id,
        checkpoint_id=checkpoint_id,
        files=tuple(common.get("files", ())),
    )


def _stored_status(status: str) -> JobStatus:
    return next(stored for stored, shown in STATUS_OF.items() if shown == status)


def _annotate_client(meta: Mapping[str, Any]) -> None:
    span = trace.get_current_span()
    for key, attribute in CLIENT_IDS.items():
        value = meta.get(key)
        if isinstance(value, str) and span.is_recording():
            span.set_attribute(attribute, value[:MAX_CLIENT_ID])
