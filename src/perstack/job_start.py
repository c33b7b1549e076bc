"""From a request to a running job: which run starts or resumes, with which messages and steps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import Limits
from perstack.core.history import usage_of_tree
from perstack.core.messages import InstructionMessage, TextPart, Usage, UserMessage
from perstack.core.typed_io import declared_arguments, render_query
from perstack.definition.budget import Budget
from perstack.definition.model import Expert
from perstack.errors import ConfigError, JobStateError, UnknownExpertError
from perstack.jobs import JobHandle
from perstack.redaction import Redactor, environment_secrets
from perstack.runtime.answers import InteractiveAnswer
from perstack.runtime.budget import NOTHING_USED, BudgetAccounts, limits_from
from perstack.runtime.context import JobContext, JobStepCounter
from perstack.runtime.elicitations import PendingElicitations
from perstack.runtime.ports import Lease, Listener, Skills
from perstack.runtime.prompt import WorkspaceInfo, instruction_message
from perstack.runtime.run import RunStart
from perstack.runtime.runner import resume_run, start_run
from perstack.runtime.start_plan import (
    AlreadyDone,
    JobRequest,
    JobState,
    ResumePlan,
    StartPlan,
    StartRunPlan,
    plan_start,
    query_of_run,
)
from perstack.runtime.stored_results import StoredResultReader
from perstack.settings import EngineContext

JOB_REQUEST = TypeAdapter(JobRequest)


def encode_request(context: EngineContext, request: JobRequest) -> dict[str, Any]:
    """The request as a JSON object without secrets."""
    redactor = Redactor(environment_secrets(context.environment))
    text = JOB_REQUEST.dump_json(request, exclude_defaults=True).decode()
    return json.loads(redactor.redact(text))


def apply_inputs(context: EngineContext, request: JobRequest) -> JobRequest:
    """The request with its typed arguments as a part of its query.

    Raises:
        UnknownExpertError: The expert is not defined.
        ConfigError: It declares no arguments, or others; every one that is wrong is named.
    """
    if request.inputs is None:
        return request
    expert = find_expert(context, request.expert_key)
    input_schema = expert.tool.input_schema
    if input_schema is None:
        raise ConfigError(
            f"Expert {expert.key!r} takes no input but its query.",
            hint="Say it in the query, or declare tool.inputSchema for the expert.",
        )
    query, problems = render_query(
        input_schema, request.inputs, request.query, is_new=request.job_id is None
    )
    if problems:
        names = ", ".join(declared_arguments(input_schema)) or "nothing"
        raise ConfigError(
            f"Bad input: {'; '.join(problems)}.",
            hint=f"The input of {expert.key} has: {names}.",
        )
    return replace(request, query=query, inputs=None)


def join_running(job: JobHandle, request: JobRequest) -> JobHandle:
    """The running job, for a caller that wants its result or answers what it asks.

    An answer to a question that is settled already changes nothing.

    Raises:
        JobStateError: The caller wants something else, or the answer does not fit the question.
    """
    if request.answer is not None:
        job.questions.answer(request.answer)
        return job
    is_at_newest = request.checkpoint_id is None and request.fork is None
    if is_at_newest and request.query.strip() in ("", job.query.strip()):
        return job
    if is_at_newest and job.questions.open_questions:
        job.questions.answer(InteractiveAnswer(text=request.query))
        return job
    raise JobStateError(
        f"Job {job.job_id} is still running and takes no new query.",
        hint="Wait for its result or cancel it, then continue it.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExecution:
    """One activation of a job, ready to be driven."""

    engine_context: EngineContext
    job_id: str
    expert: Expert
    query: str
    start_plan: StartPlan
    steps: JobStepCounter
    limits: Limits | None
    used: tuple[Usage, int]
    used_before_limits: tuple[Usage, int]
    files: tuple[str, ...]
    known_checkpoints: Mapping[str, Checkpoint]
    new_run_id: str | None

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to drive."""
        return isinstance(self.start_plan, AlreadyDone)

    def create_handle(self, listener: Listener | None) -> JobHandle:
        """The handle with which callers follow and stop the job while it is driven."""
        job = JobHandle(
            job_id=self.job_id,
            expert_key=self.expert.key,
            query=self.query,
            checkpoints=dict(self.known_checkpoints),
            listeners=[] if listener is None else [listener],
            questions=PendingElicitations(
                self.engine_context.overrides.new_id,
                is_attended=self.engine_context.settings.is_attended,
            ),
        )
        if self.known_checkpoints and not isinstance(self.start_plan, StartRunPlan):
            job.began.set()
        return job

    async def drive(self, job: JobHandle, lease: Lease) -> None:
        """Drive the job until it stops.

        Raises:
            PerstackError: It could not be begun, or the store failed.
        """
        try:
            async with self.engine_context.open_skills(
                self.engine_context.loaded.definitions
            ) as skills:
                run_id = (
                    self.start_plan.checkpoint.run_id
                    if isinstance(self.start_plan, ResumePlan)
                    else self.new_run_id or self.engine_context.overrides.new_id()
                )
                context = self._job_context(job, lease, skills, run_id)
                await self._execute_plan(context, run_id)
        finally:
            self.engine_context.flush_telemetry()

    async def _execute_plan(self, context: JobContext, run_id: str) -> None:
        match self.start_plan:
            case StartRunPlan(base=base) as beginning:
                run_start = self._run_start(context, beginning)
                first_step = context.steps.take() or context.steps.limit
                await start_run(
                    context, self.expert, run_start, base, run_id=run_id, first_step=first_step
                )
            case AlreadyDone():
                return
            case ResumePlan(checkpoint=checkpoint, answer=answer):
                await resume_run(context, self.expert, checkpoint, answer)

    def _run_start(self, context: JobContext, start_plan: StartRunPlan) -> RunStart:
        base, query, fork = start_plan.base, start_plan.query, start_plan.fork
        if base is not None and fork is not None:
            return RunStart(
                messages=self._user_messages(query) if query.strip() else (),
                continued_from=base.id,
                is_fork=True,
                instruction=self._fork_instruction(context, fork.instruction),
            )
        if base is not None and not query.strip():
            return RunStart(continued_from=base.id, answer=start_plan.answer)
        user_messages = self._user_messages(query)
        if base is not None:
            return RunStart(messages=user_messages, continued_from=base.id)
        instruction = instruction_message(self.expert, context.workspace, context.clock.now_ms())
        return RunStart(messages=(instruction, *user_messages))

    def _user_messages(self, query: str) -> tuple[UserMessage, ...]:
        texts = _query_texts(query, self.files)
        return (UserMessage(contents=tuple(TextPart(text=text) for text in texts)),)

    def _fork_instruction(self, context: JobContext, text: str | None) -> InstructionMessage | None:
        if text is None:
            return None
        expert = self.expert.model_copy(update={"instruction": text})
        return instruction_message(expert, context.workspace, context.clock.now_ms())

    def _job_context(
        self, job: JobHandle, lease: Lease, skills: Skills, root_run_id: str
    ) -> JobContext:
        engine_context = self.engine_context
        definitions = engine_context.loaded.definitions
        retries = engine_context.settings.max_retries
        clock = engine_context.overrides.clock
        return JobContext(
            job_id=self.job_id,
            definitions=definitions,
            definition_hash=engine_context.loaded.digest,
            model=engine_context.model,
            skills=skills,
            store=engine_context.store,
            lease=lease,
            telemetry=engine_context.telemetry,
            clock=clock,
            new_id=engine_context.overrides.new_id,
            jitter=engine_context.overrides.jitter,
            stop_reason=lambda: job.stop_reason,
            listener=job.publish,
            redactor=Redactor(environment_secrets(engine_context.environment)),
            result_reader=StoredResultReader(
                engine_context.store, definitions.max_tool_result_characters
            ),
            steps=self.steps,
            budget=BudgetAccounts((), clock).open_account(
                root_run_id, self.limits, used=self.used, used_before=self.used_before_limits
            ),
            workspace=WorkspaceInfo(
                engine_context.workspace,
                is_sandbox=engine_context.environment.get("PERSTACK_SANDBOX") == "1",
            ),
            max_retries=definitions.max_retries if retries is None else retries,
            activation_id=engine_context.overrides.new_id(),
            wants_deltas=engine_context.settings.is_streaming,
            known_checkpoints=dict(self.known_checkpoints),
            questions=job.questions,
        )


def _query_texts(query: str, files: tuple[str, ...]) -> tuple[str, ...]:
    if not files:
        return (query,)
    listing = "\n".join(f"- {path}" for path in files)
    return (query, f"\n\nFiles of the workspace that the caller points to:\n{listing}")


def prepare_new_job(context: EngineContext, job_id: str, request: JobRequest) -> JobExecution:
    """Prepare the first activation of a new job.

    Raises:
        UnknownExpertError: The expert is not defined.
        ConfigError: No model can be determined for it, or a key is missing.
    """
    expert = find_expert(context, request.expert_key)
    context.model.choose(expert)
    max_steps = _max_steps(context, request)
    return JobExecution(
        engine_context=context,
        job_id=job_id,
        expert=expert,
        query=request.query,
        start_plan=StartRunPlan(None, request.query),
        steps=JobStepCounter(last=0, limit=max_steps),
        limits=limits_from(_budget(context, expert, request)),
        used=NOTHING_USED,
        used_before_limits=NOTHING_USED,
        files=request.files,
        known_checkpoints={},
        new_run_id=request.new_run_id,
    )


def foreign_job_error(job_id: str, expert_key: str, wanted_key: str) -> JobStateError:
    """The error for a job that is to be continued with another expert than its own."""
    return JobStateError(
        f"Job {job_id} belongs to {expert_key!r}, not to {wanted_key!r}.",
        hint=f"Continue it with {expert_key!r}; a query comes after the expert's key.",
    )


def prepare_continuation(
    context: EngineContext, request: JobRequest, state: JobState
) -> JobExecution:
    """Prepare a further activation of a stored job.

    Raises:
        UnknownExpertError: Its expert is not defined any more.
        ConfigError: No model can be determined for it, or a key is missing.
        NotFoundError: It has no such checkpoint.
        JobStateError: The request does not fit the job's state.
    """
    root = state.root
    if request.expert_key is not None and request.expert_key != root.expert.key:
        raise foreign_job_error(root.job_id, root.expert.key, request.expert_key)
    expert = find_expert(context, root.expert.key)
    start_plan = plan_start(state, request)
    if not isinstance(start_plan, AlreadyDone):
        context.model.choose(expert)
    max_steps = _max_steps(context, request)
    query = query_of_run(state.record, root.run_id)
    used = (
        usage_of_tree(state.checkpoints, start_plan.checkpoint.run_id)
        if isinstance(start_plan, ResumePlan)
        else NOTHING_USED
    )
    is_fresh = _has_fresh_allowance(start_plan, request) or root.status == "stoppedByExceededBudget"
    limits = limits_from(_budget(context, expert, request), used) if is_fresh else root.limits
    return JobExecution(
        engine_context=context,
        job_id=root.job_id,
        expert=expert,
        query=start_plan.query if isinstance(start_plan, StartRunPlan) else query,
        start_plan=start_plan,
        steps=JobStepCounter(
            last=state.last_step, limit=_step_limit(state, start_plan, request, max_steps)
        ),
        limits=limits,
        used=used,
        used_before_limits=used if is_fresh else NOTHING_USED,
        files=request.files,
        known_checkpoints=state.checkpoints,
        new_run_id=request.new_run_id,
    )


def _step_limit(state: JobState, start_plan: StartPlan, request: JobRequest, max_steps: int) -> int:
    """The last step number that the job may use.

    A new query, a raised limit and a job that had used its steps get an allowance of their own;
    else the old limit holds.
    """
    if (
        _has_fresh_allowance(start_plan, request)
        or state.root.status == "stoppedByExceededMaxSteps"
    ):
        return state.last_step + max_steps
    return max(state.root.step_limit, state.last_step)


def _has_fresh_allowance(start_plan: StartPlan, request: JobRequest) -> bool:
    return (
        isinstance(start_plan, StartRunPlan)
        or request.max_steps is not None
        or request.budget is not None
    )


def _budget(context: EngineContext, expert: Expert, request: JobRequest) -> Budget:
    """The strictest of what the file, the expert, the operator and the caller allow."""
    budget: Budget = context.loaded.definitions.budget
    for other in (expert.budget, context.settings.budget, request.budget):
        budget = budget.stricter(other)
    return budget


def _max_steps(context: EngineContext, request: JobRequest) -> int:
    for max_steps in (request.max_steps, context.settings.max_steps):
        if max_steps is not None and max_steps < 1:
            raise ConfigError(
                f"max_steps is {max_steps}.", hint="A request needs at least one step."
            )
        if max_steps is not None:
            return max_steps
    return context.loaded.definitions.max_steps


def find_expert(context: EngineContext, key: str | None) -> Expert:
    """The expert with this key.

    Raises:
        UnknownExpertError: There is none, or it is left out for its faults.
    """
    experts = context.loaded.definitions.experts
    if key is not None and key in experts:
        return experts[key]
    if key is not None and (faults := context.loaded.faults.get(key)):
        raise UnknownExpertError(
            f"Expert {key!r} cannot be used: {'; '.join(map(str, faults))}.",
            hint="Repair the definition file; perstack check shows all of its problems.",
        )
    expert_keys = ", ".join(experts) or "none"
    raise UnknownExpertError(
        f"Expert {key!r} is not defined.", hint=f"The experts are: {expert_keys}."
    )
