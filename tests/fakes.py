"""Stand-ins that satisfy the runtime's ports."""

import itertools
import json
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import anyio

from perstack.core.checkpoint import Checkpoint, Job, JobStatus
from perstack.core.events import RecordToolResult, RunEvent
from perstack.core.messages import ToolCall, ToolCallPart, ToolResult, text_result
from perstack.core.tools import ToolDefinition
from perstack.core.transient_events import PerstackEvent
from perstack.core.verification import VerificationResult, build_verification_result
from perstack.definition.model import Definitions, Expert, ModelChoice, Provider
from perstack.definition.model_facts import ModelFacts
from perstack.definition.references import BASE_SKILL
from perstack.definition.verification import Verification
from perstack.errors import LeaseLostError, ModelError, NotFoundError
from perstack.redaction import Redactor
from perstack.runtime.budget import BudgetAccounts, RunBudget
from perstack.runtime.context import JobContext, JobStepCounter
from perstack.runtime.ports import (
    Deltas,
    Generation,
    GenerationRequest,
    JobRecord,
    Lease,
    Orphan,
    SkillListener,
    SystemClock,
)
from perstack.runtime.prompt import WorkspaceInfo
from perstack.runtime.stored_results import StoredResultReader

Reply = Generation | ModelError
Script = Callable[[GenerationRequest], Reply]


def call(name: str, call_id: str = "", **args: Any) -> ToolCallPart:
    """A tool call of a reply."""
    return ToolCallPart(tool_call_id=call_id or f"id-{name}-{len(args)}", tool_name=name, args=args)


def calls(*parts: ToolCallPart, text: str = "") -> Generation:
    """A reply that calls tools."""
    return Generation(text=text, tool_calls=parts, finish_reason="toolCalls")


def says(text: str) -> Generation:
    """A reply of plain text."""
    return Generation(text=text)


def done(result: str) -> Generation:
    """A reply that completes the run."""
    return calls(call("attemptCompletion", f"done-{result}", result=result))


class FakeModel:
    """Replies from a queue for each expert, or from a function; remembers what it was asked."""

    def __init__(self, replies: Mapping[str, Sequence[Reply]] | Script) -> None:
        self.requests: list[GenerationRequest] = []
        self._script: Script
        if callable(replies):
            self._script = replies
        else:
            queues = {key: iter(queue) for key, queue in replies.items()}
            self._script = lambda request: next(queues[request.expert_key])

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        self.requests.append(request)
        await anyio.lowlevel.checkpoint()
        reply = self._script(request)
        if isinstance(reply, ModelError):
            raise reply
        if deltas is not None and reply.text:
            deltas.text(reply.text)
        return reply

    def choose(self, expert: Expert) -> ModelChoice:
        return ModelChoice(
            provider=Provider(provider_name="scripted"),
            model="fake-model",
            facts=ModelFacts(context_window=1000),
        )

    def is_ready(self, choice: ModelChoice) -> bool:
        return True

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        return

    async def aclose(self) -> None:
        return


Handler = Callable[[ToolCall], ToolResult]


def tool(
    name: str, *, kind: Any = "mcp", is_repeatable: bool = False, skill: str = BASE_SKILL
) -> ToolDefinition:
    """A tool of the fake skill."""
    return ToolDefinition(
        skill_name=skill,
        name=name,
        description=name,
        input_schema={"type": "object"},
        kind=kind,
        is_repeatable=is_repeatable,
    )


STANDARD_TOOLS = (
    tool("attemptCompletion"),
    tool("todo"),
    tool("clearTodo"),
    tool("echo"),
    tool("look", is_repeatable=True),
    tool("askUser", kind="interactive", skill="ask"),
)


def echo(call_: ToolCall) -> ToolResult:
    return text_result(call_, json.dumps(call_.args), is_error=call_.args.get("fail") is True)


@dataclass
class FakeSkills:
    """Has the standard tools; `handler` executes them, `gate` holds calls back until it is set."""

    handler: Handler = echo
    tools_of: tuple[ToolDefinition, ...] = STANDARD_TOOLS
    called: list[ToolCall] = field(default_factory=list[ToolCall])
    keys: list[str] = field(default_factory=list[str])
    gate: anyio.Event | None = None
    failure: Exception | None = None
    problems: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """What is wrong at each check with a name; nothing once the list is used up."""
    checked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    version: int = 0
    """Of `tools_of`."""

    async def tools(self, expert: Expert, listener: SkillListener) -> tuple[ToolDefinition, ...]:
        if self.failure is not None:
            raise self.failure
        return self.tools_of

    def tools_version(self, expert: Expert) -> int | None:
        return self.version

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        self.called.append(call)
        self.keys.append(idempotency_key)
        if self.gate is not None:
            await self.gate.wait()
        return self.handler(call)

    async def verify(
        self, expert: Expert, verification: Verification, answer: str
    ) -> VerificationResult:
        self.checked.append((verification.name, answer))
        await anyio.lowlevel.checkpoint()
        left = self.problems.get(verification.name, [])
        return build_verification_result(
            verification, left.pop(0) if left else "", output=f"out {verification.name}"
        )


class FakeStore:
    """Keeps events in a list and checks the lease."""

    def __init__(self) -> None:
        self.events_written: list[RunEvent] = []
        self.commits: list[int] = []
        self.fence = 0

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        if lease.fence < self.fence:
            raise LeaseLostError("lost")
        await anyio.lowlevel.checkpoint()
        self.events_written.extend(events)
        self.commits.append(len(events))

    async def submit_request(self, job_id: str, request: dict[str, Any]) -> None:
        return

    async def request(self, job_id: str) -> dict[str, Any] | None:
        return None

    async def acquire(self, job_id: str, request: dict[str, Any] | None = None) -> Lease:
        self.fence += 1
        return Lease(job_id, "fake", self.fence)

    async def renew(self, lease: Lease) -> None:
        if lease.fence < self.fence:
            raise LeaseLostError("lost")

    async def release(self, lease: Lease, *, keep_request: bool = False) -> None:
        return

    async def request_stop(self, job_id: str, reason: str) -> bool:
        return False

    async def stop_requests(self) -> dict[str, str]:
        return {}

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        return ()

    async def load(self, job_id: str) -> JobRecord:
        raise NotFoundError(job_id)

    async def events(self, job_id: str, after: int = 0) -> tuple[int, tuple[RunEvent, ...]]:
        return len(self.events_written), tuple(self.events_written[after:])

    async def shortened_results(
        self, job_id: str, tool_call_id: str
    ) -> tuple[RecordToolResult, ...]:
        return tuple(
            event
            for event in self.events_written
            if isinstance(event, RecordToolResult)
            and event.tool_result.id == tool_call_id
            and event.whole_text is not None
        )

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        expert_key: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[Job, ...]:
        return ()

    def runs(self) -> dict[str, tuple[RunEvent, ...]]:
        """The events by run, in the order in which the runs began."""
        runs: dict[str, list[RunEvent]] = {}
        for event in self.events_written:
            runs.setdefault(event.stamp.run_id, []).append(event)
        return {run_id: tuple(events) for run_id, events in runs.items()}

    def types(self, run_id: str) -> list[str]:
        """The types of a run's events."""
        return [event.type for event in self.runs()[run_id]]


class ManualClock:
    """Time that does not pass by itself.

    Args:
        now: Milliseconds since the epoch.
        is_automatic: Each reading is one millisecond after the last and a sleep ends at once, later
            by its length; else time moves with `advance` alone and a sleep waits for it.

    Attributes:
        slept: The lengths of all sleeps, in seconds.
    """

    def __init__(self, now: int = 1_700_000_000_000, *, is_automatic: bool = True) -> None:
        self.now = now
        self.slept: list[float] = []
        self._is_automatic = is_automatic
        self._moved = anyio.Event()

    def now_ms(self) -> int:
        self.now += self._is_automatic
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on, and wake those whose sleep is over."""
        self.now += int(seconds * 1000)
        self._moved.set()
        self._moved = anyio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self._is_automatic:
            self.now += int(seconds * 1000)
            await anyio.lowlevel.checkpoint()
            return
        until = self.now + seconds * 1000
        while self.now < until:
            await self._moved.wait()


class HurriedClock(SystemClock):
    """The time of the machine, but no sleep takes longer than a millisecond.

    Args:
        kept_seconds: From this length on, a sleep takes as long as it says.
    """

    def __init__(self, kept_seconds: float = inf) -> None:
        self._kept_seconds = kept_seconds

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds if seconds >= self._kept_seconds else min(seconds, 0.001))


class NoGenerationSpan:
    """Measures nothing."""

    def finished(self, generation: Generation) -> None:
        return

    def failed(self, error_type: str) -> None:
        return


class NoToolCallSpan:
    """Measures nothing."""

    def finished(self, result: ToolResult) -> None:
        return


class NoVerificationSpan:
    """Measures nothing."""

    def finished(self, result: VerificationResult) -> None:
        return


class NoSpan:
    """Measures nothing of a run."""

    trace_parent: str | None = None

    def observe(self, event: RunEvent, checkpoint: Checkpoint) -> None:
        return

    @contextmanager
    def skill_connection(self, skill_name: str, skill_type: str) -> Generator[None]:
        yield

    @contextmanager
    def generation(self, request: GenerationRequest, attempt: int) -> Generator[NoGenerationSpan]:
        yield NoGenerationSpan()

    @contextmanager
    def tool_call(self, call: ToolCall, expert_key: str) -> Generator[NoToolCallSpan]:
        yield NoToolCallSpan()

    @contextmanager
    def verification(self, verification: Verification) -> Generator[NoVerificationSpan]:
        yield NoVerificationSpan()


class NoTelemetry:
    """Makes spans that measure nothing."""

    @contextmanager
    def run(
        self, checkpoint: Checkpoint, expert: Expert, resumed_from: str | None
    ) -> Generator[NoSpan]:
        yield NoSpan()


def experts(**delegates: tuple[str, ...]) -> Definitions:
    """Definitions with an expert for each keyword; `a_x` stands for `@a/x`."""
    tables = {
        _key(name): Expert(
            key=_key(name), instruction=f"You are {name}.", delegates=tuple(map(_key, children))
        )
        for name, children in delegates.items()
    }
    return Definitions(experts=tables)


def with_checks(
    definitions: Definitions, key: str, *checks: Verification, attempts: int = 3
) -> Definitions:
    """The same with checks of what an expert has done."""
    fields = {"verifications": checks, "max_verification_attempts": attempts}
    changed = definitions.experts[key].model_copy(update=fields)
    return definitions.model_copy(update={"experts": {**definitions.experts, key: changed}})


def _key(name: str) -> str:
    scope, _, rest = name.partition("_")
    return f"@{scope}/{rest}" if rest else name


def counting_ids(first: int) -> Callable[[], str]:
    """Makes the ids run2, run3 and so on."""
    numbers = itertools.count(first)
    return lambda: f"run{next(numbers)}"


def job_context(
    definitions: Definitions,
    model: FakeModel,
    *,
    skills: FakeSkills | None = None,
    store: FakeStore | None = None,
    max_steps: int = 100,
    max_retries: int = 5,
    heard: list[PerstackEvent] | None = None,
    known: dict[str, Checkpoint] | None = None,
    steps: JobStepCounter | None = None,
    clock: ManualClock | None = None,
    budget: RunBudget | None = None,
) -> JobContext:
    """A job of fakes."""
    store = store or FakeStore()
    return JobContext(
        job_id="job1",
        definitions=definitions,
        definition_hash=None,
        model=model,
        skills=skills or FakeSkills(),
        store=store,
        lease=Lease("job1", "fake", store.fence),
        telemetry=NoTelemetry(),
        clock=clock or ManualClock(),
        # A process that continues a job hands out no id that an earlier one did.
        new_id=counting_ids(100 if known else 2),
        result_reader=StoredResultReader(store, definitions.max_tool_result_characters),
        redactor=Redactor(["sk-canary-123"]),
        jitter=lambda: 1.0,
        stop_reason=lambda: "cancelled",
        listener=lambda event, _checkpoint: heard.append(event) if heard is not None else None,
        steps=steps or JobStepCounter(last=0, limit=max_steps),
        budget=budget or BudgetAccounts((), clock or ManualClock()),
        workspace=WorkspaceInfo(Path("/workspace")),
        max_retries=max_retries,
        wants_deltas=heard is not None,
        known_checkpoints=known or {},
    )


@asynccontextmanager
async def no_skills(_definitions: Definitions) -> AsyncGenerator[FakeSkills]:
    """Opens the fake skills for an engine."""
    yield FakeSkills()
