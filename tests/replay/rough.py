"""Jobs with rough lives: parallel delegates, failures, cancellations, crashes, branches, forks."""

import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent
from perstack.core.messages import ToolCall, ToolCallPart, ToolResult
from perstack.core.transient_events import PerstackEvent
from perstack.core.verification import VerificationResult, build_verification_result
from perstack.definition.model import Definitions, Expert
from perstack.definition.verification import Verification
from perstack.engine import Engine, open_engine
from perstack.errors import ModelError, PerstackError
from perstack.jobs import JobHandle
from perstack.runtime.ports import Deltas, Generation, GenerationRequest, Lease
from perstack.runtime.start_plan import Fork, JobRequest
from perstack.settings import Overrides, Settings
from perstack.store.memory import MemoryStore
from tests.fakes import FakeModel, FakeSkills, HurriedClock, NoTelemetry, Reply, call, calls, says

TOML = """
[experts."a"]
instruction = "Work."
delegates = ["@a/x", "@a/y", "b"]

[experts."@a/x"]
description = "Helps."
instruction = "Help."
delegates = ["@a/y"]

[experts."@a/y"]
description = "Helps."
instruction = "Help."

[experts."b"]
description = "Works too."
instruction = "Work too."
delegates = ["@b/z"]

[[experts."b".verifications]]
name = "it holds"
command = ["true"]

[experts."@b/z"]
description = "Helps."
instruction = "Help."
"""
DELEGATES = {"a": ("x", "y", "b"), "@a/x": ("y",), "b": ("z",)}
NEVER = 10**9
LONG_SECONDS = 5
MOST_REPLIES = 5


@dataclass(frozen=True, slots=True)
class RoughJob:
    """A job that has had its life."""

    events: tuple[RunEvent, ...]
    definitions: Definitions


class Fate:
    """Decides everything by lot, from one seed."""

    def __init__(self, seed: int) -> None:
        self.lot = random.Random(seed)  # noqa: S311 - lots, not secrets
        self._count = 0

    def reply(self, request: GenerationRequest) -> Reply:
        """What a model says next: it ends at last."""
        spoken = sum(message.type == "expertMessage" for message in request.messages)
        if spoken >= MOST_REPLIES:
            return calls(self.call("attemptCompletion", result="at last"))
        ways = (self._tools, self._tools, self._delegation, self._delegation, self._odd, self._end)
        return self.lot.choice(ways)(request.expert_key)

    def call(self, name: str, **args: Any) -> ToolCallPart:
        """A call with an id of its own."""
        self._count += 1
        return call(name, f"call{self._count}-{self.lot.random()}", **args)

    def _tools(self, _key: str) -> Reply:
        names = ("echo", "look", "echo", "nothing", "todo")
        chosen = self.lot.choices(names, k=self.lot.randint(1, 3))
        return calls(*(self.call(name, fail=self.lot.random() < 0.2) for name in chosen))

    def _delegation(self, key: str) -> Reply:
        names = DELEGATES.get(key)
        if names is None:
            return self._tools(key)
        chosen = self.lot.choices(names, k=self.lot.randint(1, 3))
        beside = self.lot.choices(("echo", "askUser"), k=self.lot.choice((0, 0, 1)))
        parts = [self.call(name, query=f"part {self.lot.random()}") for name in chosen]
        return calls(*parts, *(self.call(name) for name in beside))

    def _odd(self, _key: str) -> Reply:
        odd: Sequence[Reply] = (
            ModelError("busy", name="RateLimit", provider="f", status=429, is_retryable=True),
            ModelError("busy", name="RateLimit", provider="f", status=429, is_retryable=True),
            ModelError("bad", name="BadRequest", provider="f", status=400),
            Generation(),
            Generation(text="cut", finish_reason="length"),
            Generation(tool_calls=(self.call("echo"),), finish_reason="length"),
            Generation(finish_reason="contentFilter"),
            calls(self.call("askUser", question="?"), self.call("askUser", question="??")),
        )
        return self.lot.choice(odd)

    def _end(self, _key: str) -> Reply:
        beside = [self.call("echo", fail=True)] if self.lot.random() < 0.3 else []
        completing = calls(self.call("attemptCompletion", result=str(self.lot.random())), *beside)
        return self.lot.choice((completing, completing, says("in plain words")))

    async def dawdle(self) -> None:
        """Let others go first, or not."""
        for _ in range(self.lot.choice((0, 0, 1, 3, 10))):
            await anyio.lowlevel.checkpoint()


class SlowModel(FakeModel):
    """Takes its time."""

    def __init__(self, fate: Fate) -> None:
        super().__init__(fate.reply)
        self._fate = fate

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        await self._fate.dawdle()
        return await super().generate(request, deltas)


class SlowSkills(FakeSkills):
    """Take their time."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        self._fate = fate

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        await self._fate.dawdle()
        return await super().call(expert, call, idempotency_key)

    async def verify(
        self, expert: Expert, verification: Verification, answer: str
    ) -> VerificationResult:
        await self._fate.dawdle()
        return build_verification_result(
            verification, self._fate.lot.choice(("", "it does not")), output="checked"
        )


class Process:
    """The store as one process has it, which may die: it writes nothing more then."""

    def __init__(self, store: MemoryStore, dies_after: int, cancels_after: int) -> None:
        self.store = store
        self.job: JobHandle | None = None
        self._append = store.append
        self._left = dies_after
        self._patience = cancels_after

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        """Write, while the process lives."""
        if self._left > 0:
            self._left -= len(events)
            await self._append(events, lease)

    def hear(self, _event: PerstackEvent, checkpoint: Checkpoint | None) -> None:
        """Cancel the job after so many events."""
        self._patience -= checkpoint is not None
        if self._patience <= 0 and self.job is not None:
            self.job.cancel("enough")


async def rough_job(seed: int, folder: Path) -> RoughJob:
    """Let a job live through one to five processes; `folder` is empty."""
    fate = Fate(seed)
    config = folder / "perstack.toml"
    config.write_text(TOML, encoding="utf-8")
    store = MemoryStore(owner="first", is_alive=lambda _owner: False)
    job_id: str | None = None
    definitions = Definitions()
    for number in range(fate.lot.randint(1, 5)):
        async with _process(fate, store.as_owner(f"process{number}"), config) as (engine, process):
            definitions = engine.definitions
            try:
                request = await _request(fate, engine, job_id)
                if request is None:
                    continue
                process.job = await engine.start(request, process.hear)
                job_id = process.job.job_id
                with anyio.fail_after(30):
                    await process.job.stopped.wait()
            except PerstackError:  # what was drawn cannot be done in this state of the job
                continue
    _, events = await store.events(job_id or "")
    return RoughJob(events, definitions)


@asynccontextmanager
async def _process(
    fate: Fate, store: MemoryStore, config: Path
) -> AsyncGenerator[tuple[Engine, Process]]:
    @asynccontextmanager
    async def open_skills(_definitions: Definitions) -> AsyncGenerator[SlowSkills]:
        yield SlowSkills(fate)

    lot = fate.lot
    process = Process(
        store,
        dies_after=lot.choice((NEVER, NEVER, lot.randint(4, 30))),
        cancels_after=lot.choice((NEVER, NEVER, lot.randint(1, 40))),
    )
    store.append = process.append
    parts = Overrides(
        model=SlowModel(fate),
        store=store,
        open_skills=open_skills,
        telemetry=NoTelemetry(),
        clock=HurriedClock(LONG_SECONDS),
    )
    settings = Settings(
        config=config,
        workspace=config.parent,
        environment={},
        max_steps=lot.choice((3, 8, 20)),
        max_retries=lot.choice((None, 1)),
    )
    async with open_engine(settings, parts) as engine:
        yield engine, process


async def _request(fate: Fate, engine: Engine, job_id: str | None) -> JobRequest | None:
    """What is asked for next; `None` if that needs no work."""
    if job_id is None:
        return JobRequest(expert_key="a", query="go")
    lot, view = fate.lot, await engine.job(job_id)
    newest = view.checkpoint
    older = f"{newest.run_id}-{lot.randint(1, newest.sequence)}"
    fork = Fork(instruction=lot.choice((None, "Work well.")))
    ways = (
        JobRequest(job_id=job_id, query="an answer" if view.questions else ""),
        JobRequest(job_id=job_id, query="an answer" if view.questions else ""),
        JobRequest(job_id=job_id, query=f"more {lot.random()}"),
        JobRequest(job_id=job_id, checkpoint_id=older, query=lot.choice(("", "instead"))),
        JobRequest(job_id=job_id, fork=fork, query=lot.choice(("", "instead"))),
        None,
    )
    request = lot.choice(ways)
    if request is None:
        await engine.mark_cancelled(job_id, "given up")
    return request
