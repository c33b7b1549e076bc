"""From a request to a job at work: which run begins or goes on, with which messages and steps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from perstack.core.checkpoint import Checkpoint
from perstack.core.inputs import declared, spoken
from perstack.core.messages import (
    InstructionMessage,
    TextPart,
    ToolCall,
    ToolResult,
    UserMessage,
    text_result,
)
from perstack.core.redaction import Redactor, environment_secrets
from perstack.definition.model import Expert
from perstack.definition.names import MAX_QUERY_CHARACTERS
from perstack.errors import ConfigError, JobStateError, UnknownExpertError
from perstack.jobs import RunningJob
from perstack.runtime.asking import OpenQuestions
from perstack.runtime.continuation import (
    Begin,
    History,
    InteractiveAnswer,
    JobRequest,
    Plan,
    Rest,
    Resume,
    plan,
    query_of,
)
from perstack.runtime.execute import begin, resume
from perstack.runtime.job import JobContext, Steps
from perstack.runtime.ports import Lease, Listener, Skills
from perstack.runtime.prompt import Place, instruction_message
from perstack.runtime.run import Opening
from perstack.settings import Surroundings


def in_words(around: Surroundings, request: JobRequest) -> JobRequest:
    """The request with its typed arguments as a part of its query.

    Raises:
        UnknownExpertError: The expert is not defined.
        ConfigError: It declares no arguments, or others; every one that is wrong is named.
    """
    if request.inputs is None:
        return request
    expert = find_expert(around, request.expert_key)
    own = expert.tool.input_schema
    if own is None:
        raise ConfigError(
            f"Expert {expert.key!r} takes no input but its query.",
            hint="Say it in the query, or declare tool.inputSchema for the expert.",
        )
    query, problems = spoken(own, request.inputs, request.query, is_new=request.job_id is None)
    if problems:
        raise ConfigError(
            f"Bad input: {'; '.join(problems)}.",
            hint=f"The input of {expert.key} has: {', '.join(declared(own)) or 'nothing'}.",
        )
    return replace(request, query=query, inputs=None)


def check_query(request: JobRequest) -> None:
    """Refuse a query that no expert could work with.

    Raises:
        ConfigError: It is too long, or empty for a new job.
    """
    length = len(request.query)
    if length > MAX_QUERY_CHARACTERS:
        raise ConfigError(
            f"The query has {length:,} characters; the limit is {MAX_QUERY_CHARACTERS:,}.",
            hint="Put the material into a file of the workspace and name its path in the query.",
        )
    if request.job_id is None and not request.query.strip():
        raise ConfigError("The query is empty.", hint="Say what the expert shall do.")


def join(live: RunningJob, request: JobRequest) -> RunningJob:
    """The running job, for a caller that wants its result or answers what it asks.

    An answer to a question that is settled already changes nothing.

    Raises:
        JobStateError: The caller wants something else, or the answer does not fit the question.
    """
    if request.answer is not None:
        live.questions.answer(request.answer)
        return live
    is_at_end = request.checkpoint_id is None and request.fork is None
    if is_at_end and request.query.strip() in ("", live.query.strip()):
        return live
    if is_at_end and live.questions.open:
        live.questions.answer(InteractiveAnswer(text=request.query))
        return live
    raise JobStateError(
        f"Job {live.job_id} is still running and takes no new query.",
        hint="Wait for its result or cancel it, then continue it.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One stretch of work on a job, ready to be driven."""

    around: Surroundings
    job_id: str
    expert: Expert
    query: str
    plan: Plan
    steps: Steps
    files: tuple[str, ...]
    known: Mapping[str, Checkpoint]

    @property
    def is_at_rest(self) -> bool:
        """Whether there is nothing to drive."""
        return isinstance(self.plan, Rest)

    def running_job(self, listener: Listener | None) -> RunningJob:
        """The job as others see it while it is driven."""
        job = RunningJob(
            job_id=self.job_id,
            expert_key=self.expert.key,
            query=self.query,
            checkpoints=dict(self.known),
            listener=listener,
            questions=OpenQuestions(
                self.around.parts.new_id, is_attended=self.around.settings.is_attended
            ),
        )
        if self.known and not isinstance(self.plan, Begin):
            job.began.set()
        return job

    async def drive(self, job: RunningJob, lease: Lease) -> None:
        """Work on the job until it stops.

        Raises:
            PerstackError: It could not be begun, or the store failed.
        """
        try:
            async with self.around.open_skills(self.around.loaded.definitions) as skills:
                await self._work(self._context(job, lease, skills))
        finally:
            self.around.flush_telemetry()

    async def _work(self, context: JobContext) -> None:
        match self.plan:
            case Begin(base=base) as beginning:
                opening = self._opening(context, beginning)
                first_step = context.steps.take() or context.steps.limit
                run_id = context.new_id()
                await begin(
                    context, self.expert, opening, base, run_id=run_id, first_step=first_step
                )
            case Rest():
                return
            case Resume(checkpoint=checkpoint, answer=answer):
                await resume(context, self.expert, checkpoint, _result(answer))

    def _opening(self, context: JobContext, beginning: Begin) -> Opening:
        base, query, fork = beginning.base, beginning.query, beginning.fork
        if base is not None and fork is not None:
            return Opening(
                messages=self._asked(query) if query.strip() else (),
                continued_from=base.id,
                is_fork=True,
                instruction=self._instruction(context, fork.instruction),
            )
        if base is not None and not query.strip():
            return Opening(continued_from=base.id, answer=_result(beginning.answer))
        asked = self._asked(query)
        if base is not None:
            return Opening(messages=asked, continued_from=base.id)
        instruction = instruction_message(self.expert, context.place, context.clock.now_ms())
        return Opening(messages=(instruction, *asked))

    def _asked(self, query: str) -> tuple[UserMessage, ...]:
        texts = _spoken(query, self.files)
        return (UserMessage(contents=tuple(TextPart(text=text) for text in texts)),)

    def _instruction(self, context: JobContext, text: str | None) -> InstructionMessage | None:
        if text is None:
            return None
        expert = self.expert.model_copy(update={"instruction": text})
        return instruction_message(expert, context.place, context.clock.now_ms())

    def _context(self, job: RunningJob, lease: Lease, skills: Skills) -> JobContext:
        around = self.around
        definitions = around.loaded.definitions
        retries = around.settings.max_retries
        return JobContext(
            job_id=self.job_id,
            definitions=definitions,
            definition_hash=around.loaded.digest,
            model=around.model,
            skills=skills,
            store=around.store,
            lease=lease,
            telemetry=around.telemetry,
            clock=around.parts.clock,
            new_id=around.parts.new_id,
            jitter=around.parts.jitter,
            stop_reason=lambda: job.stop_reason,
            listener=job.heard,
            redactor=Redactor(environment_secrets(around.environment)),
            steps=self.steps,
            place=Place(
                around.workspace, is_sandbox=around.environment.get("PERSTACK_SANDBOX") == "1"
            ),
            max_retries=definitions.max_retries if retries is None else retries,
            wants_deltas=around.settings.is_streaming,
            known=dict(self.known),
            questions=job.questions,
        )


def _result(answer: tuple[ToolCall, str] | None) -> ToolResult | None:
    return None if answer is None else text_result(*answer)


def _spoken(query: str, files: tuple[str, ...]) -> tuple[str, ...]:
    if not files:
        return (query,)
    listing = "\n".join(f"- {path}" for path in files)
    return (query, f"\n\nFiles of the workspace that the caller points to:\n{listing}")


def new_activation(around: Surroundings, job_id: str, request: JobRequest) -> Activation:
    """A job that begins.

    Raises:
        UnknownExpertError: The expert is not defined.
        ConfigError: No model can be determined for it.
    """
    expert = find_expert(around, request.expert_key)
    around.model.choose(expert)
    max_steps = _max_steps(around, request)
    return Activation(
        around=around,
        job_id=job_id,
        expert=expert,
        query=request.query,
        plan=Begin(None, request.query),
        steps=Steps(last=0, limit=max_steps),
        files=request.files,
        known={},
    )


def continued_activation(around: Surroundings, request: JobRequest, history: History) -> Activation:
    """A job that goes on.

    Raises:
        UnknownExpertError: Its expert is not defined any more.
        NotFoundError: It has no such checkpoint.
        JobStateError: The request does not fit the job's state.
    """
    root = history.root
    if request.expert_key is not None and request.expert_key != root.expert.key:
        raise JobStateError(
            f"Job {root.job_id} belongs to {root.expert.key!r}, not to {request.expert_key!r}.",
            hint=f"Continue it with {root.expert.key!r}; a query comes after the expert's key.",
        )
    expert = find_expert(around, root.expert.key)
    todo = plan(history, request)
    max_steps = _max_steps(around, request)
    query = query_of(history.record, root.run_id)
    return Activation(
        around=around,
        job_id=root.job_id,
        expert=expert,
        query=todo.query if isinstance(todo, Begin) else query,
        plan=todo,
        steps=Steps(last=history.last_step, limit=_limit(history, todo, request, max_steps)),
        files=request.files,
        known=history.checkpoints,
    )


def _limit(history: History, todo: Plan, request: JobRequest, max_steps: int) -> int:
    """The last step number that the job may use.

    A new query, a raised limit and a job that had used its steps get an allowance of their own;
    else the old limit holds.
    """
    is_fresh = isinstance(todo, Begin) or request.max_steps is not None
    if is_fresh or history.root.status == "stoppedByExceededMaxSteps":
        return history.last_step + max_steps
    return max(history.root.step_limit, history.last_step)


def _max_steps(around: Surroundings, request: JobRequest) -> int:
    for given in (request.max_steps, around.settings.max_steps):
        if given is not None and given < 1:
            raise ConfigError(f"max_steps is {given}.", hint="A request needs at least one step.")
        if given is not None:
            return given
    return around.loaded.definitions.max_steps


def find_expert(around: Surroundings, key: str | None) -> Expert:
    """The expert with this key.

    Raises:
        UnknownExpertError: There is none.
    """
    experts = around.loaded.definitions.experts
    if key is not None and key in experts:
        return experts[key]
    known = ", ".join(experts) or "none"
    raise UnknownExpertError(f"Expert {key!r} is not defined.", hint=f"The experts are: {known}.")
