"""One active run: an expert at work on a job.

Its ways to the outside are `generate` and `summarize`, which `prepare_generation` gets ready for,
`call_tool` and `verify`, and no other.
"""

from dataclasses import dataclass, replace

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint_if_cancelled

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import (
    ContinueToNextStep,
    DelegatedBy,
    Limits,
    RecordToolResult,
    RunEvent,
    Stamp,
    StartRun,
    StopRunByExceededBudget,
    generation_usage,
)
from perstack.core.long_results import reads_tool_result, shorten
from perstack.core.machine import evolve
from perstack.core.messages import (
    InstructionMessage,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    text_result,
)
from perstack.core.todo import TodoList
from perstack.core.verification import VerificationResult, truncate_middle
from perstack.definition.model import Expert, ModelChoice
from perstack.definition.verification import Verification
from perstack.errors import ConfigError, ModelError
from perstack.runtime.budget import RunBudget, Shortage
from perstack.runtime.call_ids import CallIds
from perstack.runtime.context import JobContext
from perstack.runtime.estimates import (
    estimate_output_tokens,
    estimate_tokens,
    estimate_tool_tokens,
    unseen_messages,
)
from perstack.runtime.event_publisher import TransientPublisher
from perstack.runtime.event_writer import EventWriter
from perstack.runtime.ports import Deltas, Generation, GenerationRequest
from perstack.runtime.repetition import refusal_of_repetition
from perstack.runtime.stored_results import can_read_results
from perstack.runtime.telemetry_port import RunSpan
from perstack.runtime.tool_executor import ToolCallTasks
from perstack.runtime.tools import Toolbox, build_toolbox

NEARLY_FULL = 0.8
"""The part of the context window from which on a run reports how full it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart:
    """How a run begins.

    `messages` are what it is told first; without messages a branch of `continued_from` goes on
    where that checkpoint stands, unless it `is_fork`: then it starts as a run of its own, with the
    model of today and with `instruction`, if there is one, in place of that of the conversation.
    `answer` is the user's to a question that it waits for; `budget` is that of the job, unless the
    run is delegated; `depth` counts the runs above it.
    """

    messages: tuple[Message, ...] = ()
    continued_from: str | None = None
    delegated_by: DelegatedBy | None = None
    answer: ToolResult | None = None
    is_fork: bool = False
    instruction: InstructionMessage | None = None
    budget: RunBudget | None = None
    depth: int = 0

    @property
    def is_plain_continuation(self) -> bool:
        """Whether nothing is said and nothing has changed."""
        return self.continued_from is not None and not self.messages and not self.is_fork


class Run:
    """What the decisions of one run work with.

    Its state is `checkpoint`, one frozen value that `advance` replaces.
    """

    def __init__(
        self,
        *,
        job: JobContext,
        expert: Expert,
        run_start: RunStart,
        checkpoint: Checkpoint,
        span: RunSpan,
        tasks: TaskGroup,
    ) -> None:
        self.job = job
        self.budget = run_start.budget or job.budget
        self.depth = run_start.depth
        self.expert = expert
        self._first_choice = job.model.choose(expert)
        self.run_start = run_start
        self.checkpoint = checkpoint
        self.span = span
        self.event_writer = EventWriter(job.store, job.lease, span, job.listener)
        self.publisher = TransientPublisher(job.listener, span, self.stamp, job.questions)
        self.calls = ToolCallTasks(tasks, self.call_tool)
        self.call_ids = CallIds()
        self._toolbox: Toolbox | None = None
        self._tools_version: int | None = None
        self._reported_usage: Usage | None = None
        self._reserved: Usage | None = None
        self._output_tokens: list[int] = []
        self._unrecorded_activation_id = job.activation_id

    def tool_result_event(
        self, result: ToolResult, todos: TodoList | None = None
    ) -> RecordToolResult:
        """The answer to a call as it is recorded: shortened if it is long, with its whole text."""
        limit = self.job.definitions.max_tool_result_characters
        is_readable = can_read_results(self.expert, self.job.definitions)
        shortened = shorten(result, limit, is_readable=is_readable)
        return RecordToolResult(
            stamp=self.stamp(),
            tool_result=shortened,
            todos=todos,
            whole_text=None if shortened is result else result.text,
        )

    @property
    def choice(self) -> ModelChoice:
        """The model that generates now: the first, or the one that stands in for it."""
        choices = (self._first_choice, *self._first_choice.fallbacks)
        # A file that was edited while no process drove the run may have fewer.
        return choices[min(self.checkpoint.fallback_count, len(choices) - 1)]

    @property
    def next_fallback(self) -> ModelChoice | None:
        """The model that would stand in for the present one, if there is any."""
        fallbacks = self._first_choice.fallbacks[self.checkpoint.fallback_count :]
        return fallbacks[0] if fallbacks else None

    def stamp(self) -> Stamp:
        """The stamp of the event that follows the present checkpoint."""
        return Stamp(
            job_id=self.checkpoint.job_id,
            run_id=self.checkpoint.run_id,
            expert_key=self.expert.key,
            step_number=self.checkpoint.step_number,
            sequence=self.checkpoint.sequence + 1,
            timestamp=self.job.clock.now_ms(),
        )

    def advance(self, event: RunEvent) -> None:
        """Apply an event to the state and hand it to the event writer."""
        if self._unrecorded_activation_id is not None:
            event = event.model_copy(update={"activation_id": self._unrecorded_activation_id})
            self._unrecorded_activation_id = None
        before, self.checkpoint = self.checkpoint, evolve(self.checkpoint, event)
        self._settle(event)
        self._report_context(before.context_window_usage or 0.0)
        self.event_writer.add(event, self.checkpoint)

    def _report_context(self, before: float) -> None:
        window, usage = self.checkpoint.context_window, self.checkpoint.context_window_usage
        if window is not None and usage is not None and before < NEARLY_FULL <= usage:
            self.publisher.context_nearly_full(window, usage)

    def _settle(self, event: RunEvent) -> None:
        if isinstance(event, StartRun | ContinueToNextStep):
            self.budget.count_step()
        usage = generation_usage(event)
        if usage is None and self.checkpoint.is_final:
            usage = Usage()  # frees what a generation that was cut off had reserved
        if usage is not None:
            self.budget.settle(self._reserved, usage)
            self._reserved = None
            if usage.output_tokens:
                self._output_tokens.append(usage.output_tokens)

    def limits_to_record(self) -> Limits | None:
        """The limits of the run from now on; without any value if those of before have ended."""
        limits = self.budget.limits
        return Limits() if limits is None and self.checkpoint.limits is not None else limits

    async def reserve(self, messages: tuple[Message, ...] | None = None) -> Shortage | None:
        """Set aside what the next generation will use; returns what does not allow that.

        It is about the conversation, unless it is about other `messages`. What is set aside already
        serves also for a summary of a conversation that was too long.
        """
        if self._reserved is not None or not self.budget.is_limited:
            return None
        estimate = self.estimate(messages)
        shortage = await self.budget.reserve(estimate, self.event_writer.flush)
        if shortage is None:
            self._reserved = estimate
        return shortage

    def stop_by(self, shortage: Shortage, usage: Usage | None = None) -> StopRunByExceededBudget:
        """The stop of a run whose budget, or that of a run above it, allows nothing more."""
        return StopRunByExceededBudget(
            stamp=self.stamp(),
            limit=shortage.limit,
            budget_run_id=shortage.run_id,
            message=shortage.message,
            usage=usage,
        )

    def estimate(self, messages: tuple[Message, ...] | None = None) -> Usage:
        """What the next generation will use, roughly."""
        checkpoint = self.checkpoint
        if messages is not None:
            input_tokens = estimate_tokens(messages)
        else:
            input_tokens = checkpoint.context_tokens + estimate_tokens(unseen_messages(checkpoint))
            if not checkpoint.context_tokens and self._toolbox is not None:
                input_tokens += estimate_tool_tokens(self._toolbox.definitions)
        output_tokens = estimate_output_tokens(self._output_tokens)
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            total_tokens=input_tokens + output_tokens,
        )
        return self._with_cost(usage)

    async def toolbox(self) -> Toolbox:
        """The run's tools; the first call connects its skills.

        Raises:
            SkillError: A skill cannot be started.
        """
        if self._toolbox is None:
            await self.event_writer.flush()
            skill_tools = await self.job.skills.tools(self.expert, self.publisher)
            version = self.job.skills.tools_version(self.expert)
            self._toolbox = build_toolbox(
                self.expert,
                self.job.definitions,
                skill_tools,
                is_delegated=self.checkpoint.delegated_by is not None,
            )
            self._tools_version = version
        return self._toolbox

    @property
    def is_prepared(self) -> bool:
        """Whether this process has prepared for a generation."""
        return self._toolbox is not None

    async def prepare_generation(self) -> None:
        """Do what a generation needs and is not the model's work: connect skills, load, log in.

        Raises:
            ModelError: An access token of the provider could not be had.
            ConfigError: A setting is missing.
            SkillError: A skill cannot be started.
        """
        if self.budget.needs_prices and self.choice.facts.price is None:
            raise ConfigError(
                f"there is a budget in US dollars, and no known price of {self.choice.model}.",
                hint=f'Write it into perstack.toml: [models."{self.choice.model}".price] with '
                "input and output, in US dollars for a million tokens.",
            )
        version = self.job.skills.tools_version(self.expert)
        if version is not None and version != self._tools_version:
            self._toolbox = None
        await self.toolbox()
        if not self.job.model.is_ready(self.choice):
            await self.event_writer.flush()
            await self.job.model.warm_up(self.choice)

    async def generate(self) -> Generation:
        """Ask the model about the conversation so far.

        Raises:
            ModelError: The provider failed.
            ConfigError: A key or another setting is missing.
            SkillError: A skill cannot be started.
        """
        toolbox = await self.toolbox()
        await self.event_writer.flush()
        request = GenerationRequest(
            choice=self.choice,
            messages=self.checkpoint.messages,
            tools=toolbox.definitions,
            conversation_id=self.checkpoint.job_id,
            expert_key=self.expert.key,
            on_usage=self._set_reported_usage,
            earlier_replies=self.checkpoint.replaced_replies,
            provider_tools=self.expert.asked_of_provider,
        )
        return await self._ask(request, self.publisher if self.job.wants_deltas else None)

    async def summarize(self, messages: tuple[Message, ...]) -> Generation:
        """Ask the model for a summary, without tools.

        Raises:
            ModelError: The provider failed.
            ConfigError: A key or another setting is missing.
        """
        await self.event_writer.flush()
        request = GenerationRequest(
            choice=self.choice,
            messages=messages,
            tools=(),
            conversation_id=self.checkpoint.job_id,
            expert_key=self.expert.key,
            on_usage=self._set_reported_usage,
            purpose="summary",
        )
        return await self._ask(request, None)

    async def _ask(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        await checkpoint_if_cancelled()
        with self.span.generation(request, self.checkpoint.retry_count + 1) as span:
            try:
                generation = await self.job.model.generate(request, deltas)
            except ModelError as error:
                span.failed(error.name)
                raise
            finally:
                self.publisher.finish_streaming()
            generation = replace(generation, usage=self._with_cost(generation.usage))
            span.finished(generation)
        self._reported_usage = None
        return generation

    def take_reported_usage(self) -> Usage | None:
        """The tokens of a generation that failed or was cancelled, to be recorded once."""
        usage, self._reported_usage = self._reported_usage, None
        return None if usage is None else self._with_cost(usage)

    def _set_reported_usage(self, usage: Usage) -> None:
        self._reported_usage = usage

    def _with_cost(self, usage: Usage) -> Usage:
        price = self.choice.facts.price
        if price is None or usage.cost_usd is not None:
            return usage
        cost = price.cost_usd(
            input_tokens=usage.input_tokens,
            cached=usage.cached_input_tokens,
            cache_creation=usage.cache_creation_input_tokens,
            output_tokens=usage.output_tokens,
        )
        return usage.model_copy(update={"cost_usd": cost})

    def refusal(self, call: ToolCall) -> str | None:
        """Why a call that could be made is not made."""
        checkpoint, budget = self.checkpoint, self.job.definitions.budget
        repetition = refusal_of_repetition(checkpoint, call, budget.max_repeated_calls)
        if call.kind != "delegate" or repetition is not None:
            return repetition
        if self.depth >= budget.max_delegation_depth:
            return (
                f"Delegation goes no deeper than {budget.max_delegation_depth} experts in a line. "
                "Do it yourself."
            )
        calls = [each.id for each in checkpoint.tool_calls if each.kind == "delegate"]
        width = budget.max_delegation_width
        if width is not None and calls.index(call.id) >= width:
            return (
                f"One reply may call {width} delegates at most. Call this one after the others "
                "have answered."
            )
        return None

    async def call_tool(self, call: ToolCall) -> ToolResult:
        """Execute one call of a skill's tool, or read what was left out of a result."""
        toolbox = await self.toolbox()
        with self.span.tool_call(call, self.expert.key) as span:
            rejection = toolbox.rejection_reason(call)
            if rejection is None:
                await checkpoint_if_cancelled()
                result = await self._execute(call)
            else:
                result = text_result(call, rejection, is_error=True)
            span.finished(result)
        return result

    async def _execute(self, call: ToolCall) -> ToolResult:
        if reads_tool_result(call):
            return await self.job.result_reader.answer(call, self.checkpoint)
        key = f"{self.checkpoint.run_id}:{call.id}"
        return self._redact(await self.job.skills.call(self.expert, call, key))

    async def verify(self, verification: Verification, answer: str) -> VerificationResult:
        """Make one check of what the expert has done; `answer` is what it wants to answer."""
        await self.event_writer.flush()
        await checkpoint_if_cancelled()
        with self.span.verification(verification) as span:
            unredacted = await self.job.skills.verify(self.expert, verification, answer)
            redactor = self.job.redactor
            result = unredacted.model_copy(
                update={
                    "problem": truncate_middle(redactor.redact(unredacted.problem)),
                    "output": truncate_middle(redactor.redact(unredacted.output)),
                }
            )
            span.finished(result)
        return result

    def _redact(self, result: ToolResult) -> ToolResult:
        """The result without keys, which an expert may have found in a file of its workspace."""
        redactor = self.job.redactor
        parts = tuple(
            TextPart(text=redactor.redact(part.text)) if isinstance(part, TextPart) else part
            for part in result.result
        )
        return result if parts == result.result else result.model_copy(update={"result": parts})
