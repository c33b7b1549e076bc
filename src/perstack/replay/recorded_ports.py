"""Stand-ins for everything outside a run: each gives what the record has, and does nothing."""

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import anyio

from perstack.core import events as ev
from perstack.core.activations import is_idle
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.messages import ToolCall, ToolResult, Usage
from perstack.core.tools import ToolDefinition
from perstack.core.verification import VerificationResult
from perstack.definition.model import Expert, ModelChoice, Provider
from perstack.definition.model_facts import ModelFacts
from perstack.definition.verification import Verification
from perstack.errors import ConfigError, SkillError
from perstack.replay.recorded_responses import recorded_response
from perstack.replay.recorded_tools import GenerationTools, tools_at
from perstack.replay.recording import CURRENT_RUN_ID, Recording
from perstack.runtime.budget import NOTHING_USED, Shortage
from perstack.runtime.ports import Deltas, Generation, GenerationRequest, SkillListener
from perstack.runtime.telemetry_port import RunSpan


class RecordedModel:
    """Says what the model said. Satisfies the `Model` port."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        run_id = CURRENT_RUN_ID.get()
        event = self._recording.peek(run_id)
        usage = None if event is None else ev.generation_usage(event)
        if usage is not None:
            request.on_usage(usage)
        if event is None or ev.is_cancellation(event):
            return await self._recording.wait_for_end()
        reply = recorded_response(event, request.purpose)
        if reply is None:
            return await self._recording.diverge(run_id, "the model is asked")
        if isinstance(reply, Exception):
            raise reply
        return reply

    def choose(self, expert: Expert) -> ModelChoice:
        run_id = CURRENT_RUN_ID.get()
        before = self._recording.segment.before.get(run_id)
        event = self._recording.next_of_type(run_id, ev.StartRun)
        start = event or before
        if start is None:
            self._raise_recorded_start_error(run_id)
            choice = _model_choice("scripted", "")
        else:
            window = event.context_window if event else None
            choice = _model_choice(start.provider, start.model, window)
        return replace(choice, fallbacks=(*self._used_fallbacks(run_id), *self._later(run_id)))

    def _used_fallbacks(self, run_id: str) -> tuple[ModelChoice, ...]:
        """Those that a run has used up when it goes on where a process died."""
        before = self._recording.segment.before.get(run_id)
        if before is None or is_idle(before):
            return ()
        return (_model_choice(before.provider, before.model),) * before.fallback_count

    def _later(self, run_id: str) -> Iterator[ModelChoice]:
        for event in self._recording.remaining(run_id):
            if isinstance(event, ev.Retry) and event.fallback is not None:
                fallback = event.fallback
                yield _model_choice(fallback.provider, fallback.model, fallback.context_window)

    def is_ready(self, choice: ModelChoice) -> bool:
        event = self._recording.peek(CURRENT_RUN_ID.get())
        return isinstance(event, ev.StartGeneration)

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        event = self._recording.peek(CURRENT_RUN_ID.get())
        if event is None or ev.is_cancellation(event):
            await self._recording.wait_for_end()
        # What has cost tokens has failed in the generation itself.
        if isinstance(event, ev.Retry | ev.StopRunByError) and event.usage == Usage():
            error = recorded_response(event)
            if isinstance(error, Exception):
                raise error

    async def aclose(self) -> None:
        return

    def _raise_recorded_start_error(self, run_id: str) -> None:
        parent = self._recording.parent_of(run_id)
        answer = self._recording.recorded_result(*parent) if parent else None
        if answer is not None:
            raise ConfigError(answer.text.partition(" failed: ")[2])


def _model_choice(provider: str, model: str, context_window: int | None = None) -> ModelChoice:
    return ModelChoice(
        # The name comes from a record that another version may have written.
        provider=Provider.model_construct(provider_name=provider),
        model=model,
        facts=ModelFacts(context_window=context_window),
    )


class RecordedSkills:
    """Returns what the tools returned. Satisfies the `Skills` port.

    Args:
        recording: The record.
        tools: The tools that the record shows, by run.
    """

    def __init__(
        self, recording: Recording, tools: Mapping[str, Sequence[GenerationTools]]
    ) -> None:
        self._recording = recording
        self._tools = tools
        self._asked = 0
        self._changing_runs = {
            run_id
            for run_id, generations in tools.items()
            if len({tuple(tool.name for tool in each.tools) for each in generations}) > 1
        }

    async def tools(self, expert: Expert, listener: SkillListener) -> tuple[ToolDefinition, ...]:
        run_id = CURRENT_RUN_ID.get()
        event = self._recording.peek(run_id)
        if event is None or ev.is_cancellation(event):
            return await self._recording.wait_for_end()
        if isinstance(event, ev.StopRunByError) and event.error.name == SkillError.__name__:
            raise SkillError(event.error.message, skill="")
        generation = tools_at(self._tools.get(run_id, ()), event)
        return () if generation is None else generation.tools

    def tools_version(self, expert: Expert) -> int | None:
        # Events that were not flushed yet hide which generation comes next: `tools` finds out.
        self._asked += 1
        return self._asked if CURRENT_RUN_ID.get() in self._changing_runs else None

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        return await self._recording.wait_for_result(CURRENT_RUN_ID.get(), call.id)

    async def verify(
        self, expert: Expert, verification: Verification, answer: str
    ) -> VerificationResult:
        run_id = CURRENT_RUN_ID.get()
        event = self._recording.peek(run_id)
        if event is None or ev.is_cancellation(event):
            return await self._recording.wait_for_end()
        if not isinstance(event, ev.RecordVerification):
            return await self._recording.diverge(run_id, f"the check {verification.name!r} is made")
        return event.verification


class RecordedResultReader:
    """Returns what was read. Satisfies the `ResultReader` port."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    async def answer(self, call: ToolCall, checkpoint: Checkpoint) -> ToolResult:
        return await self._recording.wait_for_result(checkpoint.run_id, call.id)


class RecordedClock:
    """Time that does not pass. Satisfies the `Clock` port."""

    def __init__(self, recording: Recording, at_ms: int) -> None:
        self._recording = recording
        self._at_ms = at_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._at_ms

    async def sleep(self, seconds: float) -> None:
        """Wait no longer than the record needs."""
        event = self._recording.peek(CURRENT_RUN_ID.get())
        if event is None or ev.is_cancellation(event):
            await self._recording.wait_for_end()
        await anyio.lowlevel.checkpoint()


class RecordedStepCounter:
    """Hands out the numbers that each run got. Satisfies what a job needs of its steps.

    Args:
        recording: The record.
        limit: The last number that may be used, where a run is not told of another.
    """

    def __init__(self, recording: Recording, limit: int) -> None:
        self._recording = recording
        self._limit = limit

    @property
    def first(self) -> int:
        """The highest number that was in use before."""
        return 0

    @property
    def limit(self) -> int:
        """The highest number that may be used."""
        for event in self._recording.remaining(CURRENT_RUN_ID.get("")):
            if isinstance(event, ev.StartRun | ev.ResumeFromStop) and event.step_limit is not None:
                return event.step_limit
        return self._limit

    def take(self) -> int | None:
        """The number that the present run takes next, or `None` if it got none."""
        run_id = CURRENT_RUN_ID.get()
        for event in self._recording.remaining(run_id):
            match event:
                case ev.StartRun():
                    return event.stamp.step_number
                case ev.ContinueToNextStep():
                    return event.next_step_number
                case ev.StopRunByExceededMaxSteps():
                    return None
                case _:
                    continue
        return self._limit if self._recording.has_run(run_id) else None


_STOPS = (
    ev.StopRunByExceededBudget,
    ev.StopRunByExceededMaxSteps,
    ev.StopRunByCancellation,
    ev.StopRunByError,
)


class RecordedBudget:
    """Stops and tells the runs as the record has it. Satisfies the `RunBudget` port."""

    is_limited = True
    needs_prices = False

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._resumed: set[str] = set()

    @property
    def limits(self) -> ev.Limits | None:
        run_id = CURRENT_RUN_ID.get("")
        before = self._recording.segment.before.get(run_id)
        if before is not None and before.status in {"proceeding", "stoppedByDelegate"}:
            return before.limits  # a run that was not stopped goes on without an event of its own
        for event in self._recording.remaining(run_id):
            if isinstance(event, ev.StartRun | ev.ResumeFromStop):
                return event.limits
        return None

    async def reserve(
        self, estimate: Usage, before_waiting: Callable[[], Awaitable[None]]
    ) -> Shortage | None:
        run_id = CURRENT_RUN_ID.get()
        if self._is_interrupted_generation(run_id):
            event = self._recording.peek(run_id)
        else:
            event = self._recording.next_of_type(
                run_id, ev.StartGeneration, ev.CompactHistory, *_STOPS
            )
        if event is None or ev.is_cancellation(event):
            await before_waiting()
            return await self._recording.wait_for_end()
        return _shortage_of(event)

    def _is_interrupted_generation(self, run_id: str) -> bool:
        """Whether the run goes on in the middle of a generation, which nothing precedes."""
        before = self._recording.segment.before.get(run_id)
        is_first = run_id not in self._resumed
        self._resumed.add(run_id)
        return is_first and before is not None and before.state is State.GENERATING_TOOL_CALL

    def settle(self, estimate: Usage | None, usage: Usage) -> None:
        """The record knows what is left."""

    def count_step(self) -> None:
        """The record knows what is left."""

    def step_shortage(self) -> Shortage | None:
        run_id = CURRENT_RUN_ID.get()
        parent = self._recording.parent_of(run_id)
        if parent is not None and not self._recording.has_run(run_id):
            return _shortage_of(self._recording.next_of_type(parent[0], *_STOPS))
        next_step = (ev.StartRun, ev.ContinueToNextStep)
        return _shortage_of(self._recording.next_of_type(run_id, *next_step, *_STOPS))

    def time_shortage(self) -> Shortage | None:
        event = self._recording.next_of_type(CURRENT_RUN_ID.get(), *_STOPS)
        return _shortage_of(event) if event and ev.is_cancellation(event) else None

    def notice(
        self,
        estimate: Usage,
        job_steps: tuple[int, int],
        noticed: float,
        *,
        is_renewed: bool,
    ) -> ev.BudgetNotice | None:
        event = self._recording.next_of_type(CURRENT_RUN_ID.get(), ev.ContinueToNextStep)
        return event.notice if event else None

    async def expire(self) -> None:
        await self._recording.wait_for_timeout(CURRENT_RUN_ID.get())

    def open_account(
        self,
        run_id: str,
        limits: ev.Limits | None,
        *,
        used: tuple[Usage, int] = NOTHING_USED,
        used_before: tuple[Usage, int] = NOTHING_USED,
    ) -> "RecordedBudget":
        return self


def _shortage_of(event: ev.RunEvent | None) -> Shortage | None:
    if not isinstance(event, ev.StopRunByExceededBudget):
        return None
    return Shortage(event.limit, event.budget_run_id, event.message)


class RecordedRunIds:
    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._used_ids: set[str] = set()

    def __call__(self) -> str:
        """The id of the delegate that the present run has called next."""
        event = self._recording.next_of_type(CURRENT_RUN_ID.get(), ev.CallDelegate)
        for delegation in event.delegate_to if event else ():
            if delegation.run_id not in self._used_ids:
                self._used_ids.add(delegation.run_id)
                return delegation.run_id
        return f"more{len(self._used_ids)}"


class _NoGenerationSpan:
    """Measures nothing."""

    def finished(self, generation: Generation) -> None:
        """It ended well."""

    def failed(self, error_type: str) -> None:
        """It ended badly."""


class _NoToolCallSpan:
    """Measures nothing."""

    def finished(self, result: ToolResult) -> None:
        """It was answered."""


class _NoVerificationSpan:
    """Measures nothing."""

    def finished(self, result: VerificationResult) -> None:
        """It was made."""


class _CurrentRunSpan:
    """Measures nothing, but says which run is at work. Satisfies the `RunSpan` port."""

    trace_parent: str | None = None

    def __init__(self, recording: Recording, run_id: str) -> None:
        self._recording = recording
        self._run_id = run_id

    def observe(self, event: ev.RunEvent, checkpoint: Checkpoint) -> None:
        """An event is durable."""

    @contextmanager
    def skill_connection(self, skill_name: str, skill_type: str) -> Generator[None]:
        yield

    @contextmanager
    def generation(self, request: GenerationRequest, attempt: int) -> Generator[_NoGenerationSpan]:
        yield _NoGenerationSpan()

    @contextmanager
    def tool_call(self, call: ToolCall, expert_key: str) -> Generator[_NoToolCallSpan]:
        with set_current_run(self._recording.child_of(self._run_id, call.id) or self._run_id):
            yield _NoToolCallSpan()

    @contextmanager
    def verification(self, verification: Verification) -> Generator[_NoVerificationSpan]:
        yield _NoVerificationSpan()


class CurrentRunTelemetry:
    """Satisfies the `Telemetry` port."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    @contextmanager
    def run(
        self, checkpoint: Checkpoint, expert: Expert, resumed_from: str | None
    ) -> Generator[RunSpan]:
        with set_current_run(checkpoint.run_id):
            yield _CurrentRunSpan(self._recording, checkpoint.run_id)


@contextmanager
def set_current_run(run_id: str) -> Generator[None]:
    """What happens inside happens for this run."""
    token = CURRENT_RUN_ID.set(run_id)
    try:
        yield
    finally:
        CURRENT_RUN_ID.reset(token)
