"""Drives the job in a process that ends itself at one exact point of its work."""

import json
import os
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit
from sqlite3 import Connection

import anyio
from _kill_job import JOB_ID, QUERY
from _lease_fighter import FastClock
from _torn_photos import Photographer

from perstack.core.events import RunEvent
from perstack.core.messages import ToolCall, ToolResult
from perstack.core.tools import ToolDefinition
from perstack.core.verification import VerificationResult
from perstack.definition.loader import load_definitions
from perstack.definition.model import Definitions, Expert, ModelChoice
from perstack.definition.verification import Verification
from perstack.engine import Engine, open_engine
from perstack.errors import JobStateError, NotFoundError
from perstack.jobs import JobHandle
from perstack.llm.model_factory import open_model
from perstack.runtime.ports import (
    Deltas,
    Generation,
    GenerationRequest,
    Lease,
    Model,
    SkillListener,
    Skills,
    SystemClock,
)
from perstack.runtime.start_plan import JobRequest
from perstack.settings import Overrides, Settings
from perstack.skills.pool import open_skills
from perstack.store.connection import open_connections
from perstack.store.group_commit import GroupCommitter
from perstack.store.leases import LeasePolicy, current_owner, process_is_alive
from perstack.store.sqlite import SqliteStore
from perstack.stores import store_path


@dataclass(frozen=True)
class Point:
    """The n-th time that the process comes to a place."""

    place: str
    number: int


@dataclass(frozen=True)
class Order:
    """One process: where it works, and where it ends; without a point it takes the job to its end.

    Attributes:
        folder: Its workspace.
        model_url: The model's endpoint.
        key: By which the endpoint tells the jobs apart.
        point: Where it ends.
        signal: By which signal.
        checkpoint_pages: After so many pages the store folds its log back; as ever, if `None`.
        has_photos: Whether the files of the store are copied around each commit of events.
        most_bytes: To which size a file may grow, as on a disk that is full.
        is_hasty: Whether leases expire a hundred times sooner. Who comes later waits for that.
    """

    folder: str
    model_url: str
    key: str
    point: Point | None = None
    signal: int = signal.SIGKILL
    checkpoint_pages: int | None = None
    has_photos: bool = False
    most_bytes: int | None = None
    is_hasty: bool = False

    def line(self) -> str:
        """The order as a line of JSON."""
        return json.dumps(asdict(self))


def order_of(line: str) -> Order:
    """Read the line again."""
    fields = json.loads(line)
    point = fields.pop("point")
    return Order(**fields, point=Point(**point) if point else None)


class Trap:
    """Counts how often each place is come to, and ends the process at the point of the order."""

    def __init__(self, order: Order) -> None:
        self.counts: Counter[str] = Counter()
        self.writes = 0
        self._order = order
        self._is_due = order.point is not None

    def reached(self, place: str) -> None:
        """The process is at a place."""
        self.counts[place] += 1
        point = self._order.point
        if point is None or not self._is_due or place != point.place:
            return
        # Who stands still in the middle of a write holds up all others, so that is left for later.
        is_hampering = self._order.signal == signal.SIGSTOP and self.writes > 0
        if self.counts[place] >= point.number and not is_hampering:
            self._is_due = False
            os.kill(os.getpid(), self._order.signal)


class TrappedStore(SqliteStore):
    """Ends before and after each commit of events, and notes what it acknowledged."""

    trap: Trap
    acknowledged: int

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        self.trap.reached("writing")
        self.trap.writes += 1
        try:
            await super().append(events, lease)
        finally:
            self.trap.writes -= 1
        os.write(self.acknowledged, "".join(f"{event.id}\n" for event in events).encode())
        self.trap.reached("written")


class TrappedModel:
    """Ends before a request and after its answer."""

    def __init__(self, model: Model, trap: Trap) -> None:
        self._model = model
        self._trap = trap

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        self._trap.reached("asking")
        generation = await self._model.generate(request, deltas)
        self._trap.reached("answered")
        return generation

    def choose(self, expert: Expert) -> ModelChoice:
        return self._model.choose(expert)

    def is_ready(self, choice: ModelChoice) -> bool:
        return self._model.is_ready(choice)

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        await self._model.warm_up(choice)

    async def aclose(self) -> None:
        await self._model.aclose()


class TrappedSkills:
    """Ends before a call of a tool and after its result."""

    def __init__(self, skills: Skills, trap: Trap) -> None:
        self._skills = skills
        self._trap = trap

    async def tools(self, expert: Expert, listener: SkillListener) -> tuple[ToolDefinition, ...]:
        return await self._skills.tools(expert, listener)

    def tools_version(self, expert: Expert) -> int | None:
        return self._skills.tools_version(expert)

    async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
        self._trap.reached("calling")
        result = await self._skills.call(expert, call, idempotency_key)
        self._trap.reached("called")
        return result

    async def verify(
        self, expert: Expert, verification: Verification, answer: str
    ) -> VerificationResult:
        return await self._skills.verify(expert, verification, answer)


async def drive(order: Order) -> None:
    """Begin the job, or go on with it, and work on it until it stops or the process is ended."""
    folder = Path(order.folder)
    (folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    trap = Trap(order)
    loaded = load_definitions(folder / "perstack.toml")
    environment = {
        "PATH": os.environ["PATH"],
        "OPENAI_API_KEY": order.key,
        "OPENAI_BASE_URL": f"{order.model_url}/v1",
    }

    @asynccontextmanager
    async def trapped_skills(definitions: Definitions) -> AsyncGenerator[TrappedSkills]:
        async with open_skills(
            workspace=folder, environment=environment, definitions=definitions
        ) as skills:
            yield TrappedSkills(skills, trap)

    settings = Settings(config=loaded.path, workspace=folder, environment=environment)
    async with _store(order, trap) as store:
        model = open_model(definitions=loaded.definitions, environment=environment)
        parts = Overrides(store=store, model=TrappedModel(model, trap), open_skills=trapped_skills)
        async with open_engine(settings, parts, loaded) as engine:
            await _work(engine, is_patient=order.is_hasty)
    (folder / "counts.json").write_text(json.dumps(trap.counts), encoding="utf-8")


@asynccontextmanager
async def _store(order: Order, trap: Trap) -> AsyncGenerator[TrappedStore]:
    folder = Path(order.folder)
    path = store_path(folder)
    writing, reading = open_connections(path)
    if order.checkpoint_pages is not None:
        writing.execute(f"PRAGMA wal_autocheckpoint = {order.checkpoint_pages}")
    _watch(writing, trap, Photographer(folder) if order.has_photos else None)
    if order.most_bytes is not None:
        setrlimit(RLIMIT_FSIZE, (order.most_bytes, RLIM_INFINITY))
    clock = FastClock() if order.is_hasty else SystemClock()
    ownership = LeasePolicy(current_owner(), clock, process_is_alive)
    writer = GroupCommitter(writing, path)
    store = TrappedStore(path, ownership, writer, reading, anyio.CapacityLimiter(1))
    store.trap = trap
    store.acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    yield store
    await writer.close()
    os.close(store.acknowledged)
    reading.close()
    writing.close()


def _watch(connection: Connection, trap: Trap, photographer: Photographer | None) -> None:
    """End in the middle of a transaction too: before each event, and before what makes it last."""
    has_events = False

    def traced(statement: str) -> None:
        nonlocal has_events
        if "INSERT INTO events" in statement:
            has_events = True
            trap.reached("entering")
        elif statement == "COMMIT" and has_events:
            has_events = False
            trap.reached("committing")
            if photographer is not None:
                photographer.committing()
        elif statement == "BEGIN IMMEDIATE" and photographer is not None:
            photographer.beginning()

    connection.set_trace_callback(traced)


async def _work(engine: Engine, *, is_patient: bool) -> None:
    """As the faces do: a SIGTERM ends the engine, which stops its jobs, resumable."""
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        job = await _started(engine, is_patient=is_patient)
        async with anyio.create_task_group() as tasks:

            async def wait_for_the_signal() -> None:
                async for _ in signals:
                    tasks.cancel_scope.cancel()

            tasks.start_soon(wait_for_the_signal)
            await job.stopped.wait()
            tasks.cancel_scope.cancel()


async def _started(engine: Engine, *, is_patient: bool) -> JobHandle:
    request = JobRequest(job_id=JOB_ID)
    while True:
        try:
            return await engine.start(request)
        except NotFoundError:
            # Nothing was durable when it was killed, so its caller has no job to go on with.
            request = JobRequest(expert_key="lead", query=QUERY, new_job_id=JOB_ID)
        except JobStateError:
            if not is_patient:
                raise
            await anyio.sleep(0.01)
