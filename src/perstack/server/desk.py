"""Answers calls: finds or begins the job, waits for it, and says how it stands.

Jobs belong to the engine, not to the request, so a request that ends leaves its job alone. One that
is cancelled stops the job that it set in motion: its caller no longer wants it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import anyio
from mcp_types import CallToolResult
from opentelemetry import trace

from perstack.core.checkpoint import JobStatus
from perstack.definition.model import Expert
from perstack.errors import JobStateError, PerstackError
from perstack.jobs import JobView
from perstack.runtime.continuation import JobRequest
from perstack.server import schemas
from perstack.server.arguments import BadArguments, checked
from perstack.server.caller import Caller
from perstack.server.port import ServedEngine, ServedJob
from perstack.server.results import STATUS_OF, error_result, job_result, jobs_result
from perstack.server.tools import CANCEL, JOB, JOBS
from perstack.server.typed import arguments_of
from perstack.server.waiting import Progress, Rhythm, wait_elsewhere, wait_for
from perstack.server.windows import Windows
from perstack.telemetry.propagation import annotate_call

CLIENT_CANCELLED = "cancelled by the client"
CLIENT_IDS = {
    "claudecode/toolUseId": "perstack.client.tool_use_id",
    "threadId": "perstack.client.thread_id",
}
MAX_CLIENT_ID = 128


class Call(Protocol):
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
    def caller(self) -> Caller:
        """Who calls."""
        ...

    async def report(self, progress: float, message: str) -> None:
        """Send a progress notification, if the client wants any."""
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

    async def ask(self, expert: Expert, call: Call) -> CallToolResult:
        """Answer a call of an expert's tool."""
        _annotate_client(call.meta)
        try:
            asked = arguments_of(expert, call.arguments, self._windows.default_seconds)
            earlier = await self._query_of(asked.common["job_id"]) if asked.may_repeat else ""
            request = _request(expert, asked.common, asked.words(earlier))
            seconds = self._windows.seconds(call.caller, asked.common.get("wait_seconds"))
            return await self._work_on(expert, request, call, seconds)
        except PerstackError as error:
            return error_result(error)

    async def _query_of(self, job_id: str) -> str:
        return (await self._engine.job(job_id)).job.query

    async def look_after(self, name: str, call: Call) -> CallToolResult:
        """Answer a call of a tool that looks after jobs."""
        _annotate_client(call.meta)
        try:
            return await self._job_tools[name](call)
        except PerstackError as error:
            return error_result(error)

    async def _work_on(
        self, expert: Expert, request: JobRequest, call: Call, seconds: float
    ) -> CallToolResult:
        before = self._engine.running(request.job_id) if request.job_id else None
        _check_expert(before, expert)
        try:
            job = await self._engine.start(request)
        except JobStateError:
            if request.job_id is None or not await self._is_waited_for_elsewhere(expert, request):
                raise
            return self._result(await self._follow(request.job_id, call, seconds))
        self._annotate(job.job_id)
        try:
            return self._result(await self._attend(job, call, seconds, is_ours=job is not before))
        except PerstackError as error:
            return error_result(error, job.job_id)

    async def _attend(
        self, job: ServedJob, call: Call, seconds: float, *, is_ours: bool
    ) -> JobView:
        try:
            return await wait_for(job, seconds, self._progress(call))
        except anyio.get_cancelled_exc_class():
            if is_ours:
                job.cancel(CLIENT_CANCELLED)
            raise

    async def _is_waited_for_elsewhere(self, expert: Expert, request: JobRequest) -> bool:
        """Whether the caller only waits for a job that another process drives, or just drove."""
        if request.job_id is None or request.checkpoint_id is not None:
            return False
        job = (await self._engine.job(request.job_id)).job
        is_same = request.query.strip() in ("", job.query.strip())
        return is_same and job.coordinator_expert_key == expert.key

    async def _follow(self, job_id: str, call: Call, seconds: float) -> JobView:
        self._annotate(job_id)
        live = self._engine.running(job_id)
        progress = self._progress(call)
        if live is not None:
            return await wait_for(live, seconds, progress)
        return await wait_elsewhere(
            self._engine, job_id, seconds, progress, self._rhythm.poll_seconds
        )

    async def _wait(self, call: Call) -> CallToolResult:
        given = checked(call.arguments, schemas.job_input(self._windows.default_seconds))
        seconds = given.get("wait_seconds", self._windows.default_seconds)
        view = await self._follow(given["job_id"], call, seconds)
        return job_result(view, offset=given.get("offset", 0))

    async def _list(self, call: Call) -> CallToolResult:
        given = checked(call.arguments, schemas.JOBS_INPUT)
        status = _stored_status(given["status"]) if "status" in given else None
        return jobs_result(await self._engine.jobs(status=status, limit=given.get("limit", 20)))

    async def _cancel(self, call: Call) -> CallToolResult:
        job_id: str = checked(call.arguments, schemas.CANCEL_INPUT)["job_id"]
        self._annotate(job_id)
        return job_result(await self._engine.cancel(job_id, CLIENT_CANCELLED))

    def _result(self, view: JobView) -> CallToolResult:
        return job_result(view, has_job_tools=self._has_job_tools)

    def _progress(self, call: Call) -> Progress:
        return Progress(call.report, self._rhythm.heartbeat_seconds)

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


def _check_expert(live: ServedJob | None, expert: Expert) -> None:
    if live is not None and live.expert_key != expert.key:
        raise JobStateError(
            f"Job {live.job_id} belongs to {live.expert_key!r}, not to {expert.key!r}.",
            hint=f"Continue it with {live.expert_key!r}.",
        )


def _stored_status(status: str) -> JobStatus:
    return next(stored for stored, shown in STATUS_OF.items() if shown == status)


def _annotate_client(meta: Mapping[str, Any]) -> None:
    span = trace.get_current_span()
    for key, attribute in CLIENT_IDS.items():
        value = meta.get(key)
        if isinstance(value, str) and span.is_recording():
            span.set_attribute(attribute, value[:MAX_CLIENT_ID])
