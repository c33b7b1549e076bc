"""Answers `tools/call`, from the arguments to the result.

A job belongs to the engine and not to the request that started it: a request that ends leaves the
job running, and one that is cancelled stops the job that it started.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from mcp_types import CallToolResult, InputRequiredResult
from opentelemetry import trace

from perstack.core.checkpoint import JobStatus
from perstack.core.events import StopRunByCancellation
from perstack.definition.budget import Budget
from perstack.definition.model import Expert
from perstack.errors import JobStateError, NotFoundError, PerstackError
from perstack.jobs import SHUTDOWN_REASON, JobHandle, JobView
from perstack.runtime.answers import InteractiveAnswer
from perstack.runtime.start_plan import JobRequest
from perstack.server.summaries import PUBLIC_STATUS
from perstack.server.tools import schemas
from perstack.server.tools.arguments import (
    CallArguments,
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
from perstack.server.tools.request import ToolCallRequest
from perstack.server.tools.results import error_result, job_result, jobs_result
from perstack.server.tools.schemas import BUDGET_ARGUMENTS
from perstack.server.tools.truncation import budget_for
from perstack.server.tools.wait import (
    PollSettings,
    ProgressReporter,
    WaitBudget,
    WaitPolicy,
    wait_by_id,
    wait_for_job,
)
from perstack.telemetry.propagation import annotate_call

if TYPE_CHECKING:
    from perstack.engine import Engine

CLIENT_CANCELLED = "cancelled by the client"
SETTLING_SECONDS = 5.0

JOB_STATUS: dict[str, JobStatus] = {public: status for status, public in PUBLIC_STATUS.items()}

CallOutcome = JobView | InputRequiredResult


@dataclass(frozen=True, slots=True)
class Start:
    """State of a call that starts or continues a job.

    Attributes:
        request: What the engine is asked to do.
        responses: The client's responses to questions that it expects, by question id.
    """

    request: JobRequest
    responses: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Resume:
    """State of a call that has responses to the questions of a stopped job.

    Attributes:
        request_state: The round in which the questions were asked.
        responses: The client's responses, by question id.
    """

    request_state: RequestState
    responses: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Ask:
    """State of a call whose job has stopped, has open questions or is still running.

    Attributes:
        view: The job.
        rounds: How often this call has asked the user.
    """

    view: JobView
    rounds: int


CallState = Start | Resume | Ask


class ExpertCall:
    """Runs one call of an expert's tool, state by state, until it has an outcome.

    Args:
        engine: Runs the job.
        expert: The expert of the tool.
        tool_call: The request.
        seconds: How long to wait for the job. The time in which the user is asked is not counted.
        poll_settings: Intervals of polls and progress notifications.
        on_job_id: Called with the id of the job once it is known.

    Attributes:
        job_id: The job, once it is known.
    """

    def __init__(
        self,
        engine: "Engine",
        expert: Expert,
        tool_call: ToolCallRequest,
        *,
        seconds: float,
        poll_settings: PollSettings,
        on_job_id: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._expert = expert
        self._tool_call = tool_call
        self._wait_budget = WaitBudget(seconds)
        self._progress = ProgressReporter(tool_call.report, poll_settings)
        self._on_job_id = on_job_id
        self._started_job: JobHandle | None = None
        self.job_id: str | None = None

    async def run(self, state: CallState) -> CallOutcome:
        """Run the call from its first state to its outcome.

        Raises:
            PerstackError: The job cannot be started or continued; the message says why.
        """
        current: CallState | CallOutcome = state
        try:
            while True:
                match current:
                    case Start():
                        current = await self._start(current)
                    case Resume():
                        current = await self._resume(current)
                    case Ask():
                        current = await self._ask(current)
                    case _:
                        return current
        except anyio.get_cancelled_exc_class():
            if self._started_job is not None:
                self._started_job.cancel(CLIENT_CANCELLED)
            raise

    async def _start(self, state: Start) -> CallState:
        view = await self._start_and_wait(state.request)
        if not view.questions or not state.responses:
            return Ask(view, rounds=0)
        request_state = RequestState(job_id=view.job.id, run_id=view.checkpoint.run_id, rounds=0)
        return Resume(request_state, state.responses)

    async def _resume(self, state: Resume) -> CallState | CallOutcome:
        job_id = state.request_state.job_id
        view = await self._engine.job(job_id)
        answers, is_closed = collect_answers(view, state.request_state, state.responses)
        for answer in answers:
            view = await self._submit_answer(view, answer)
        if is_closed:
            return view
        if await self._is_orphaned(view):
            # The process that asked has ended, and its question with it.
            view = await self._start_and_wait(JobRequest(job_id=job_id))
        elif not answers:
            view = await self._wait_by_id(job_id)
        return Ask(view, state.request_state.rounds)

    async def _ask(self, state: Ask) -> CallState | CallOutcome:
        view, caller = state.view, self._tool_call.caller
        can_ask = caller.has_forms if caller.is_modern else caller.can_elicit
        if not view.questions or not can_ask or state.rounds >= MAX_ELICITATION_ROUNDS:
            return view
        rounds = state.rounds + 1
        if caller.is_modern:
            return input_required_result(view, rounds)
        question, job_id = view.questions[0], view.job.id
        running_job = self._engine.running(job_id)
        result = await elicit(question, self._tool_call, running_job, self._progress)
        if result is not None and result.action == "cancel":
            return await self._engine.job(job_id)
        answer = None if result is None else parse_elicit_result(question, result)
        if answer is None:
            return Ask(await self._wait_by_id(job_id), rounds)
        return Ask(await self._submit_answer(view, answer), rounds)

    async def _is_orphaned(self, view: JobView) -> bool:
        """Whether the process that drove the job was shut down or has crashed."""
        if view.job.status != "stoppedByCancellation":
            return view.job.status == "interrupted"
        events = reversed(await self._engine.history(view.job.id))
        stop = next((event for event, after in events if after.id == view.checkpoint.id), None)
        return isinstance(stop, StopRunByCancellation) and stop.reason == SHUTDOWN_REASON

    async def _submit_answer(self, view: JobView, answer: InteractiveAnswer) -> JobView:
        request = JobRequest(expert_key=self._expert.key, job_id=view.job.id, answer=answer)
        # With other questions open the job stops again at once, and takes no answer before that.
        has_other_questions = len(view.questions) > 1
        return await self._start_and_wait(request, SETTLING_SECONDS if has_other_questions else 0.0)

    async def _start_and_wait(self, request: JobRequest, min_seconds: float = 0.0) -> JobView:
        running_job = self._engine.running(request.job_id) if request.job_id else None
        if running_job is not None:
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
        with self._wait_budget.spend() as seconds:
            return await wait_for_job(job, max(seconds, min_seconds), self._progress)

    async def _wait_by_id(self, job_id: str) -> JobView:
        self._set_job_id(job_id)
        with self._wait_budget.spend() as seconds:
            return await wait_by_id(self._engine, job_id, seconds, self._progress)

    async def _is_handled_remotely(self, request: JobRequest) -> bool:
        """Whether another process drives the job, or just did, so that there is only to wait.

        This includes a question that another client has answered.
        """
        if request.job_id is None or request.checkpoint_id is not None:
            return False
        view = await self._engine.job(request.job_id)
        if request.answer is not None:
            return request.answer.tool_call_id not in {each.id for each in view.questions}
        is_same = request.query.strip() in ("", view.job.query.strip())
        return is_same and view.job.coordinator_expert_key == self._expert.key

    def _check_expert(self, running_job: JobHandle) -> None:
        if running_job.expert_key != self._expert.key:
            raise JobStateError(
                f"Job {running_job.job_id} belongs to {running_job.expert_key!r},"
                f" not to {self._expert.key!r}.",
                hint=f"Continue it with {running_job.expert_key!r}.",
            )

    def _set_job_id(self, job_id: str) -> None:
        self.job_id = job_id
        self._on_job_id(job_id)


CLIENT_ID_ATTRIBUTES = {
    "claudecode/toolUseId": "perstack.client.tool_use_id",
    "threadId": "perstack.client.thread_id",
}
MAX_CLIENT_ID = 128


class ToolCallHandler:
    """Calls the tools of one tenant.

    Args:
        engine: Runs the jobs.
        wait_policy: How long a call waits for its job.
        has_job_tools: Whether callers have the tools that manage jobs.
        transport: `pipe` for stdio, `tcp` for HTTP.
        poll_settings: Intervals of polls and progress notifications.
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
        self._job_tools: dict[str, Callable[[ToolCallRequest], Awaitable[CallToolResult]]] = {
            JOB_TOOL: self._wait_for_job,
            JOBS_TOOL: self._list_jobs,
            CANCEL_TOOL: self._cancel_job,
        }

    async def call_expert(
        self, expert: Expert, call: ToolCallRequest
    ) -> CallToolResult | InputRequiredResult:
        """Call an expert's tool. Every failure is a result with `is_error`."""
        _annotate_client_ids(call.meta)
        expert_call: ExpertCall | None = None
        try:
            arguments = parse_call_arguments(
                expert, call.arguments, self._wait_policy.advertised_seconds
            )
            seconds = self._wait_policy.expert_call_seconds(
                call.caller, arguments.common.get("wait_seconds")
            )
            expert_call = ExpertCall(
                self._engine,
                expert,
                call,
                seconds=seconds,
                poll_settings=self._poll_settings,
                on_job_id=self._annotate_span,
            )
            outcome = await expert_call.run(await self._first_state(expert, call, arguments))
        except PerstackError as error:
            return self._error_result(error, call, expert_call and expert_call.job_id)
        return outcome if isinstance(outcome, InputRequiredResult) else self._result(outcome, call)

    async def call_job_tool(self, name: str, call: ToolCallRequest) -> CallToolResult:
        """Call a tool that manages jobs. Every failure is a result with `is_error`."""
        _annotate_client_ids(call.meta)
        try:
            return await self._job_tools[name](call)
        except PerstackError as error:
            return self._error_result(error, call)

    async def _first_state(
        self, expert: Expert, call: ToolCallRequest, arguments: CallArguments
    ) -> CallState:
        request_state = parse_request_state(call.state) if call.caller.is_modern else None
        if request_state is not None:
            return Resume(request_state, call.responses)
        previous_query = ""
        if arguments.needs_previous_query:
            previous_query = (await self._engine.job(arguments.common["job_id"])).job.query
        request = _job_request(expert, arguments.common, arguments.query(previous_query))
        return Start(request, call.responses)

    async def _wait_for_job(self, call: ToolCallRequest) -> CallToolResult:
        schema = schemas.job_input(self._wait_policy.advertised_seconds)
        arguments = validate_arguments(call.arguments, schema)
        seconds = self._wait_policy.job_tool_seconds(call.caller, arguments.get("wait_seconds"))
        self._annotate_span(arguments["job_id"])
        progress = ProgressReporter(call.report, self._poll_settings)
        view = await wait_by_id(self._engine, arguments["job_id"], seconds, progress)
        return self._result(view, call, arguments.get("offset", 0))

    async def _list_jobs(self, call: ToolCallRequest) -> CallToolResult:
        arguments = validate_arguments(call.arguments, schemas.JOBS_INPUT)
        status = JOB_STATUS[arguments["status"]] if "status" in arguments else None
        return jobs_result(await self._engine.jobs(status=status, limit=arguments.get("limit", 20)))

    async def _cancel_job(self, call: ToolCallRequest) -> CallToolResult:
        job_id: str = validate_arguments(call.arguments, schemas.CANCEL_INPUT)["job_id"]
        self._annotate_span(job_id)
        return self._result(await self._engine.cancel(job_id, CLIENT_CANCELLED), call)

    def _result(self, view: JobView, call: ToolCallRequest, offset: int = 0) -> CallToolResult:
        budget = budget_for(call.caller.client_name)
        has_job_tools = self._has_job_tools_for(call)
        return job_result(view, offset=offset, has_job_tools=has_job_tools, budget=budget)

    def _has_job_tools_for(self, call: ToolCallRequest) -> bool:
        return self._has_job_tools and call.caller.may_read_jobs

    def _error_result(
        self, error: PerstackError, call: ToolCallRequest, job_id: str | None = None
    ) -> CallToolResult:
        if isinstance(error, NotFoundError):
            # Its own hint names the command line, which callers do not have.
            hint = f"{JOBS_TOOL} lists the jobs." if self._has_job_tools_for(call) else None
            error = NotFoundError(error.message, hint=hint)
        return error_result(error, job_id)

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
        budget=_budget(common),
    )


def _budget(common: Mapping[str, Any]) -> Budget | None:
    limits = {name: common[name] for name in BUDGET_ARGUMENTS if name in common}
    return Budget.model_validate(limits) if limits else None


def _annotate_client_ids(meta: Mapping[str, Any]) -> None:
    span = trace.get_current_span()
    for key, attribute in CLIENT_ID_ATTRIBUTES.items():
        value = meta.get(key)
        if isinstance(value, str) and span.is_recording():
            span.set_attribute(attribute, value[:MAX_CLIENT_ID])
