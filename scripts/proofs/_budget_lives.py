"""Lives of jobs with budgets: processes that die, stops, and what is granted to go on."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import anyio
from _budget_trees import ROOT_KEY, Tree, lots
from _jumping_loop import LoopClock
from _stage import ROOT

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent, StartRun
from perstack.core.messages import ExpertMessage, TextPart, ToolCall, ToolResult, Usage, UserMessage
from perstack.definition.budget import Budget, JobBudget
from perstack.definition.loader import LoadedDefinitions
from perstack.definition.model import Definitions, Expert, ModelChoice, Provider
from perstack.definition.model_facts import ModelFacts
from perstack.engine import open_engine
from perstack.errors import ModelError
from perstack.runtime.ports import Deltas, Generation, GenerationRequest, Lease
from perstack.runtime.start_plan import JobRequest
from perstack.settings import Overrides, Settings
from perstack.store.memory import MemoryStore
from tests.fakes import FakeSkills, NoTelemetry

JOB_ID = "job"
QUERY = "r"
STOPS = ("stopRunByExceededBudget", "stopRunByExceededMaxSteps")
NEVER = 10**9
LIMITED_ACTIVATIONS = 5
MOST_ACTIVATIONS = 40
PATIENCE_SECONDS = 20_000


@dataclass(slots=True)
class Ledger:
    """What is recorded of each run, known by its path.

    Attributes:
        replies: How many replies events have.
        ended: The type of the newest event of the first run.
        faults: Replies that were recorded out of turn, or asked for again.
    """

    replies: dict[str, int] = field(default_factory=dict[str, int])
    ended: str = ""
    paths: dict[str, str] = field(default_factory=dict[str, str])
    faults: list[str] = field(default_factory=list[str])

    def note(self, event: RunEvent) -> None:
        """Count a reply that is durable now."""
        run_id = event.stamp.run_id
        if isinstance(event, StartRun):
            self.paths[run_id] = _path(event.input_messages)
        path = self.paths[run_id]
        self.ended = event.type if path == QUERY else self.ended
        new_message = getattr(event, "new_message", None)
        new_messages = getattr(event, "new_messages", ())
        for message in (new_message, *new_messages):
            if isinstance(message, ExpertMessage):
                self.replies[path] = self.replies.get(path, 0) + 1


def _path(messages: Sequence[Any]) -> str:
    message = messages[1]
    if not isinstance(message, UserMessage) or not isinstance(message.contents[0], TextPart):
        raise TypeError("a run begins with its query")
    return message.contents[0].text


@dataclass(eq=False, slots=True)
class TreeModel:
    """Says what the tree has. Satisfies the `Model` port."""

    tree: Tree
    ledger: Ledger
    process: "Process"
    failed: dict[tuple[str, int], int]

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        path = _path(request.messages)
        position = sum(isinstance(message, ExpertMessage) for message in request.messages)
        recorded = self.ledger.replies.get(path, 0)
        if position != recorded and not self.process.is_dead:
            self.ledger.faults.append(f"{path} was asked for {position} after {recorded} replies")
        reply = self.tree.reply(path, position)
        failed = self.failed.get((path, position), 0)
        if reply.seconds:
            await anyio.sleep(reply.seconds)
        if failed < reply.failures:
            self.failed[path, position] = failed + 1
            if failed:
                request.on_usage(Usage(input_tokens=100, total_tokens=100))
            raise ModelError("busy", name="Busy", provider="tree", is_retryable=True)
        return reply.generation

    def choose(self, expert: Expert) -> ModelChoice:
        return ModelChoice(
            provider=Provider(provider_name="scripted"),
            model="tree",
            facts=ModelFacts(context_window=100_000, price=self.tree.price),
        )

    def is_ready(self, choice: ModelChoice) -> bool:
        return True

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        return

    async def aclose(self) -> None:
        return


class TreeSkills(FakeSkills):
    """Take their time."""

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        await anyio.sleep(lots(call.id).choice((0, 0, 0.5)))
        return await super().call(expert, call, idempotency_key)


class Process:
    """The store as one process has it, which may die: nothing is written from then on."""

    def __init__(self, store: MemoryStore, ledger: Ledger, dies_after: int) -> None:
        self.store = store
        self.is_dead = False
        self.died = anyio.Event()
        self._ledger = ledger
        self._append = store.append
        self._left = dies_after
        store.append = self.append

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        """Write, while the process lives."""
        self._left -= len(events)
        if self._left < 0:
            self.is_dead = True
            self.died.set()
        if self.is_dead:
            await anyio.lowlevel.checkpoint()
            return
        await self._append(events, lease)
        for event in events:
            self._ledger.note(event)
        await anyio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """What one process did.

    Attributes:
        events: All that it wrote.
        granted: What the job may use, if it got a budget of its own now; `None` if that of before
        holds.
        live: The checkpoints that the process had at its end; `None` if it died.
    """

    events: tuple[RunEvent, ...]
    granted: Budget | None
    live: Mapping[str, Checkpoint] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """All that was done for a job."""

    definitions: Definitions
    activations: tuple[Activation, ...]
    ledger: Ledger

    @property
    def events(self) -> tuple[RunEvent, ...]:
        return tuple(event for each in self.activations for event in each.events)


class JobLife:
    """Lets one job live: at first with budgets and deaths, then without."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._lot = lots(tree.seed, "life")
        self._definitions = tree.definitions
        self._free = self._definitions.model_copy(update={"budget": JobBudget(), "max_steps": 200})
        self._clock = LoopClock()
        self._ledger = Ledger()
        self._failed: dict[tuple[str, int], int] = {}
        ids = count(1)
        self._new_id = lambda: f"id{next(ids)}"
        self._store = MemoryStore(owner="first", clock=self._clock, is_alive=lambda _owner: False)

    async def live(self) -> Life:
        """Until the job has its answer, or nothing more comes."""
        activations: list[Activation] = []
        for number in range(MOST_ACTIVATIONS):
            activations.append(await self._activate(number))
            if self._ledger.ended == "completeRun":
                break
        return Life(
            definitions=self._definitions, activations=tuple(activations), ledger=self._ledger
        )

    async def _activate(self, number: int) -> Activation:
        lot, is_limited = self._lot, number < LIMITED_ACTIVATIONS
        dies_after = lot.choice((NEVER, NEVER, NEVER, lot.randint(1, 40))) if is_limited else NEVER
        definitions = self._definitions if is_limited else self._free
        request = self._request(number, is_limited=is_limited)
        process = Process(self._store.as_owner(f"process{number}"), self._ledger, dies_after)
        granted = self._granted(definitions, request)
        before = len(await self._stored())
        async with self._engine(process, definitions) as engine:
            job = await engine.start(request)
            with anyio.fail_after(PATIENCE_SECONDS):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._end_with_process, process, job)
                    await job.stopped.wait()
                    tasks.cancel_scope.cancel()
            if job.failure is not None and not process.is_dead:
                raise job.failure
            live = None if process.is_dead else dict(job.checkpoints)
        events = (await self._stored())[before:]
        return Activation(events=events, granted=granted, live=live)

    async def _end_with_process(self, process: Process, job: Any) -> None:
        await process.died.wait()
        job.cancel("its process died")

    async def _stored(self) -> tuple[RunEvent, ...]:
        if not self._ledger.ended:
            return ()
        _, events = await self._store.events(JOB_ID)
        return events

    def _request(self, number: int, *, is_limited: bool) -> JobRequest:
        budget = self._tree.budget(f"call{number}") if is_limited else None
        if not self._ledger.ended:
            return JobRequest(expert_key=ROOT_KEY, query=QUERY, new_job_id=JOB_ID, budget=budget)
        if self._ledger.ended not in STOPS or self._lot.choice((True, False, False)):
            return JobRequest(job_id=JOB_ID)
        return JobRequest(job_id=JOB_ID, budget=budget)

    def _granted(self, definitions: Definitions, request: JobRequest) -> Budget | None:
        is_new = self._ledger.ended in ("", "stopRunByExceededBudget")
        if not is_new and request.budget is None:
            return None
        own: Budget = definitions.budget
        return own.stricter(request.budget)

    @asynccontextmanager
    async def _engine(self, process: Process, definitions: Definitions) -> AsyncGenerator[Any]:
        @asynccontextmanager
        async def open_skills(_definitions: Definitions) -> AsyncGenerator[TreeSkills]:
            yield TreeSkills()

        overrides = Overrides(
            model=TreeModel(self._tree, self._ledger, process, self._failed),
            store=process.store,
            open_skills=open_skills,
            telemetry=NoTelemetry(),
            clock=self._clock,
            new_id=self._new_id,
            jitter=lambda: 0.5,
        )
        path = ROOT / "perstack.toml"
        loaded = LoadedDefinitions(path, definitions, warnings=(), digest="")
        settings = Settings(config=path, workspace=ROOT, environment={})
        async with open_engine(settings, overrides, loaded) as engine:
            yield engine


async def live(tree: Tree) -> Life:
    """Let the job of a tree live, from its first request to its answer."""
    return await JobLife(tree).live()
