"""One call of an expert's tool: from what it asks for to what its caller is told.

Jobs belong to the engine, not to the request, so a request that ends leaves its job alone. One that
is cancelled stops the job that it set in motion: its caller no longer wants it.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from mcp_types import CallToolResult, ElicitResult, InputRequiredResult
from opentelemetry import trace

from perstack.core.checkpoint import JobStatus
from perstack.core.elicitation import FormSchema
from perstack.core.events import StopRunByCancellation
from perstack.definition.model import Expert
from perstack.errors import JobStateError, NotFoundError, PerstackError
from perstack.jobs import SHUTDOWN_REASON, JobHandle, JobView
from perstack.runtime.start_plan import InteractiveAnswer, JobRequest
from perstack.server.caller import Caller
from perstack.server.summaries import PUBLIC_STATUS
from perstack.server.tools import schemas
from perstack.server.tools.arguments import (
    InvalidArgumentsError,
    parse_call_arguments,
    validate_arguments,
)
from perstack.server.tools.definitions import CANCEL_TOOL, JOB_TOOL, JOBS_TOOL
from perstack.server.tools.elicitation import (
    MAX_ELICITATION_ROUNDS,
    RequestState,
    collect_answers,
    elicit,
    input_required_result,
    parse_elicit_result,
    parse_request_state,
)
from perstack.server.tools.results import error_result, job_result, jobs_result
from perstack.server.tools.truncation import budget_for
from perstack.server.tools.wait import (
    PollSettings,
    ProgressReporter,
    WaitPolicy,
    wait_by_id,
    wait_for_job,
)
from perstack.telemetry.propagation import annotate_call

if TYPE_CHECKING:
    from perstack.engine import Engine

CLIENT_CANCELLED = "cancelled by the client"
SETTLING_SECONDS = 5.0

CallOutcome = JobView | InputRequiredResult


class Visitor(Protocol):
    """The request of a call."""

    @property
    def caller(self) -> Caller: ...

    async def report(self, progress: float, message: str) -> None:
        """Send a progress notification, if the client wants any."""
        ...

    async def elicit(self, message: str, schema: FormSchema) -> ElicitResult:
        """Put a question to the user while the request is open."""
        ...


class ExpertCall:
    """One call.

    Args:
        engine: Where the jobs are.
        expert: Whose tool is called.
        tool_call: The request.
        seconds: How long to wait for the job; the time in which the user is asked does not count.
        poll_settings: How often to look and to report.
        on_job_id: Is told the id of the job.

    Attributes:
        job_id: The job, once it is known.
    """

    def __init__(
        self,
        engine: "Engine",
        expert: Expert,
        tool_call: Visitor,
        *,
        seconds: float,
        poll_settings: PollSettings,
        on_job_id: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._on_job_id = on_job_id
        self._expert = expert
        self._tool_call = tool_call
        self._remaining_seconds = seconds
        self._poll_settings = poll_settings
        self._progress = ProgressReporter(tool_call.report, poll_settings.heartbeat_seconds)
        self._started_job: JobHandle | None = None
        self.job_id: str | None = None

    async def start(self, request: JobRequest, responses: Mapping[str, object]) -> CallOutcome:
        """Begin or continue a job, and ask what it asks.

        Args:
            request: What is wanted of the job.
            responses: Answers that come before they are asked for, by the id of the question.

        Raises:
            PerstackError: It cannot be done; the message says why.
        """
        try:
            view = await self._start_and_wait(request)
            if not view.questions or not responses:
                return await self._elicit_answers(view, rounds=0)
            request_state = RequestState(
                job_id=view.job.id, run_id=view.checkpoint.run_id, rounds=0
            )
            return await self._apply_responses(request_state, responses)
        except anyio.get_cancelled_exc_class():
            self._cancel_started_job()
            raise

    async def resume_with_responses(
        self, request_state: RequestState, responses: Mapping[str, object]
    ) -> CallOutcome:
        """Go on with a job with what the user has answered.

        Raises:
            PerstackError: It cannot be done; the message says why.
        """
        try:
            return await self._apply_responses(request_state, responses)
        except anyio.get_cancelled_exc_class():
            self._cancel_started_job()
            raise

    async def _apply_responses(
        self, request_state: RequestState, responses: Mapping[str, object]
    ) -> CallOutcome:
        view = await self._engine.job(request_state.job_id)
        elicited = collect_answers(view, request_state, responses)
        for answer in elicited.answers:
            view = await self._submit_answer(view, answer)
        if elicited.is_closed:
            return view
        if await self._is_orphaned(view):
            # The process that asked has ended, and its question with it.
            view = await self._start_and_wait(JobRequest(job_id=request_state.job_id))
        elif not elicited.answers:
            view = await self._wait_by_id(request_state.job_id)
        return await self._elicit_answers(view, request_state.rounds)

    async def _is_orphaned(self, view: JobView) -> bool:
        """Whether the process that worked on the job has ended before it, in whatever way."""
        if view.job.status != "stoppedByCancellation":
            return view.job.status == "interrupted"
        events = reversed(await self._engine.history(view.job.id))
        stop = next((event for event, after in events if after.id == view.checkpoint.id), None)
        return isinstance(stop, StopRunByCancellation) and stop.reason == SHUTDOWN_REASON

    async def _elicit_answers(self, view: JobView, rounds: int) -> CallOutcome:
        caller = self._tool_call.caller
        if caller.is_modern:
            should_ask = view.questions and caller.has_forms and rounds < MAX_ELICITATION_ROUNDS
            return input_required_result(view, rounds + 1) if should_ask else view
        while view.questions and caller.can_elicit and rounds < MAX_ELICITATION_ROUNDS:
            rounds += 1
            question, job_id = view.questions[0], view.job.id
            running_job = self._engine.running(job_id)
            result = await elicit(question, self._tool_call, running_job, self._progress)
            if result is not None and result.action == "cancel":
                return await self._engine.job(job_id)
            answer = None if result is None else parse_elicit_result(question, result)
            if answer is None:
                view = await self._wait_by_id(job_id)
            else:
                view = await self._submit_answer(view, answer)
        return view

    async def _submit_answer(self, view: JobView, answer: InteractiveAnswer) -> JobView:
        request = JobRequest(expert_key=self._expert.key, job_id=view.job.id, answer=answer)
        # With other questions open the job stops again at once, and takes no answer before that.
        has_other_questions = len(view.questions) > 1
        return await self._start_and_wait(request, SETTLING_SECONDS if has_other_questions else 0.0)

    async def _start_and_wait(self, request: JobRequest, min_seconds: float = 0.0) -> JobView:
        """How the job of a request stands, once it has stopped, asks, or time is up."""
        running_job = self._engine.running(request.job_id) if request.job_id else None
        self._check_expert(running_job)
        try:
            job = await self._engine.start(request)
        except JobStateError:
            if request.job_id is None or not await self._is_handled_remotely(request):
                raise
            return await self._wait_by_id(request.job_id)
        self._set_job_id(job.job_id)
        if job is not running_job or request.answer is not None:
            self._started_job = job
        started_at = anyio.current_time()
        view = await wait_for_job(job, max(self._remaining_seconds, min_seconds), self._progress)
        self._charge(started_at)
        return view

    async def _wait_by_id(self, job_id: str) -> JobView:
        self._set_job_id(job_id)
        started_at = anyio.current_time()
        view = await wait_by_id(
            self._engine,
            job_id,
            self._remaining_seconds,
            self._progress,
            self._poll_settings.poll_seconds,
        )
        self._charge(started_at)
        return view

    async def _is_handled_remotely(self, request: JobRequest) -> bool:
        """Whether there is only to wait for a job that another process drives, or just drove.

        That is also so if the answer to its question came from somewhere else.
        """
        if request.job_id is None or request.checkpoint_id is not None:
            return False
        view = await self._engine.job(request.job_id)
        if request.answer is not None:
            return request.answer.tool_call_id not in {each.id for each in view.questions}
        is_same = request.query.strip() in ("", view.job.query.strip())
        return is_same and view.job.coordinator_expert_key == self._expert.key

    def _check_expert(self, running_job: JobHandle | None) -> None:
        if running_job is not None and running_job.expert_key != self._expert.key:
            raise JobStateError(
                f"Job {running_job.job_id} belongs to {running_job.expert_key!r},"
                f" not to {self._expert.key!r}.",
                hint=f"Continue it with {running_job.expert_key!r}.",
            )

    def _set_job_id(self, job_id: str) -> None:
        self.job_id = job_id
        self._on_job_id(job_id)

    def _charge(self, started_at: float) -> None:
        self._remaining_seconds = max(
            0.0, self._remaining_seconds - (anyio.current_time() - started_at)
        )

    def _cancel_started_job(self) -> None:
        if self._started_job is not None:
            self._started_job.cancel(CLIENT_CANCELLED)


CLIENT_ID_ATTRIBUTES = {
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


class ToolCallHandler:
    """Answers the calls of one server.

    Args:
        engine: Where the jobs are.
        wait_policy: How long a call waits for its job.
        has_job_tools: Whether callers have the tools that look after jobs.
        transport: `pipe` for stdio, `tcp` for HTTP.
        poll_settings: How often to look and to report.
    """

    def __init__(
        self,
        engine: "Engine",
        *,
        wait_policy: WaitPolicy,
        has_job_tools: bool = True,
        transport: str = "pipe",
        poll_settings: PollSettings | None = None,
    ) -> None:
        self._engine = engine
        self._wait_policy = wait_policy
        self._has_job_tools = has_job_tools
        self._transport = transport
        self._poll_settings = poll_settings or PollSettings()
        self._job_tools: dict[str, Callable[[Call], Awaitable[CallToolResult]]] = {
            JOB_TOOL: self._wait_for_job,
            JOBS_TOOL: self._list_jobs,
            CANCEL_TOOL: self._cancel_job,
        }

    async def call_expert(self, expert: Expert, call: Call) -> CallToolResult | InputRequiredResult:
        """Answer a call of an expert's tool."""
        _annotate_client_ids(call.meta)
        expert_call: ExpertCall | None = None
        try:
            arguments = parse_call_arguments(
                expert, call.arguments, self._wait_policy.advertised_seconds
            )
            seconds = self._wait_policy.expert_call_seconds(
                call.caller, arguments.common.get("wait_seconds")
            )
            expert_call = self._create_expert_call(expert, call, seconds)
            request_state = parse_request_state(call.state) if call.caller.is_modern else None
            if request_state is None:
                previous_query = (
                    await self._read_query(arguments.common["job_id"])
                    if arguments.needs_previous_query
                    else ""
                )
                request = _job_request(expert, arguments.common, arguments.query(previous_query))
                return self._outcome_result(await expert_call.start(request, call.responses), call)
            return self._outcome_result(
                await expert_call.resume_with_responses(request_state, call.responses), call
            )
        except PerstackError as error:
            job_id = None if expert_call is None else expert_call.job_id
            return error_result(self._with_caller_hint(error, call), job_id)

    async def _read_query(self, job_id: str) -> str:
        return (await self._engine.job(job_id)).job.query

    async def call_job_tool(self, name: str, call: Call) -> CallToolResult:
        """Answer a call of a tool that looks after jobs."""
        _annotate_client_ids(call.meta)
        try:
            return await self._job_tools[name](call)
        except PerstackError as error:
            return error_result(self._with_caller_hint(error, call))

    async def _wait_for_job(self, call: Call) -> CallToolResult:
        arguments = validate_arguments(
            call.arguments, schemas.job_input(self._wait_policy.advertised_seconds)
        )
        seconds = self._wait_policy.job_tool_seconds(call.caller, arguments.get("wait_seconds"))
        self._annotate_span(arguments["job_id"])
        progress = ProgressReporter(call.report, self._poll_settings.heartbeat_seconds)
        poll_seconds = self._poll_settings.poll_seconds
        view = await wait_by_id(self._engine, arguments["job_id"], seconds, progress, poll_seconds)
        return self._job_result(view, call, arguments.get("offset", 0))

    async def _list_jobs(self, call: Call) -> CallToolResult:
        arguments = validate_arguments(call.arguments, schemas.JOBS_INPUT)
        status = _to_job_status(arguments["status"]) if "status" in arguments else None
        return jobs_result(await self._engine.jobs(status=status, limit=arguments.get("limit", 20)))

    async def _cancel_job(self, call: Call) -> CallToolResult:
        job_id: str = validate_arguments(call.arguments, schemas.CANCEL_INPUT)["job_id"]
        self._annotate_span(job_id)
        return self._job_result(await self._engine.cancel(job_id, CLIENT_CANCELLED), call)

    def _create_expert_call(self, expert: Expert, call: Call, seconds: float) -> ExpertCall:
        return ExpertCall(
            self._engine,
            expert,
            call,
            seconds=seconds,
            poll_settings=self._poll_settings,
            on_job_id=self._annotate_span,
        )

    def _outcome_result(
        self, outcome: CallOutcome, call: Call
    ) -> CallToolResult | InputRequiredResult:
        if isinstance(outcome, InputRequiredResult):
            return outcome
        return self._job_result(outcome, call)

    def _job_result(self, view: JobView, call: Call, offset: int = 0) -> CallToolResult:
        budget = budget_for(call.caller.client_name)
        has_job_tools = self._has_job_tools_for(call)
        return job_result(view, offset=offset, has_job_tools=has_job_tools, budget=budget)

    def _has_job_tools_for(self, call: Call) -> bool:
        return self._has_job_tools and call.caller.may_read_jobs

    def _with_caller_hint(self, error: PerstackError, call: Call) -> PerstackError:
        """An error with a hint that helps the caller, who has no command line."""
        if isinstance(error, NotFoundError):
            hint = f"{JOBS_TOOL} lists the jobs." if self._has_job_tools_for(call) else None
            return NotFoundError(error.message, hint=hint)
        return error

    def _annotate_span(self, job_id: str) -> None:
        annotate_call(job_id=job_id, transport=self._transport)


def _job_request(expert: Expert, common: Mapping[str, Any], query: str) -> JobRequest:
    job_id: str | None = common.get("job_id")
    checkpoint_id: str | None = common.get("checkpoint_id")
    if job_id is None and checkpoint_id is not None:
        raise InvalidArgumentsError("checkpoint_id needs the job_id that it belongs to.")
    if job_id is None and not query.strip():
        raise InvalidArgumentsError("query is empty.", hint="Say what the expert shall do.")
    return JobRequest(
        expert_key=expert.key,
        query=query,
        job_id=job_id,
        checkpoint_id=checkpoint_id,
        files=tuple(common.get("files", ())),
    )


def _to_job_status(status: str) -> JobStatus:
    return next(stored for stored, public in PUBLIC_STATUS.items() if public == status)


def _annotate_client_ids(meta: Mapping[str, Any]) -> None:
    span = trace.get_current_span()
    for key, attribute in CLIENT_ID_ATTRIBUTES.items():
        value = meta.get(key)
        if isinstance(value, str) and span.is_recording():
            span.set_attribute(attribute, value[:MAX_CLIENT_ID])
