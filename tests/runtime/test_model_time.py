"""What is no work of the model is done before a generation begins, and its span."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import newest_checkpoints
from perstack.core.messages import Usage
from perstack.core.tools import ToolDefinition
from perstack.definition.model import Expert, ModelChoice
from perstack.errors import ConfigError, ModelError, PerstackError, SkillError
from perstack.replay.runner import replay
from perstack.runtime.budget import BudgetAccounts, Shortage
from perstack.runtime.context import JobContext
from perstack.runtime.ports import Deltas, Generation, GenerationRequest, SkillListener
from tests.fakes import (
    FakeModel,
    FakeSkills,
    FakeStore,
    ManualClock,
    NoGenerationSpan,
    NoSpan,
    NoTelemetry,
    call,
    calls,
    done,
    experts,
    job_context,
)
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio

ONE = experts(a=())
MINUTE = 60.0


@dataclass
class Diary:
    """What happened, in order; each entry but those of the model took a minute."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(is_automatic=False))
    store: FakeStore = field(default_factory=FakeStore)
    entries: list[str] = field(default_factory=list[str])
    durable: dict[str, str] = field(default_factory=dict[str, str])
    """The newest event of the store when something happened first."""

    def note(self, entry: str, seconds: float = 0.0) -> None:
        self.entries.append(entry)
        self.durable.setdefault(entry, self.store.events_written[-1].type)
        self.clock.advance(seconds)


class SlowSkills(FakeSkills):
    def __init__(self, diary: Diary) -> None:
        super().__init__()
        self._diary = diary

    async def tools(self, expert: Expert, listener: SkillListener) -> tuple[ToolDefinition, ...]:
        self._diary.note("connect skills", MINUTE)
        return self.tools_of


class ColdModel(FakeModel):
    """Has to be warmed up once; `failures` are what comes of that before."""

    def __init__(
        self, diary: Diary, replies: list[Generation], failures: tuple[PerstackError, ...] = ()
    ) -> None:
        super().__init__({"a": replies})
        self._diary = diary
        self._failures = list(failures)
        self._is_warm = False

    def is_ready(self, choice: ModelChoice) -> bool:
        return self._is_warm

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        self._diary.note("warm up", MINUTE)
        if self._failures:
            raise self._failures.pop(0)
        self._is_warm = True

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        self._diary.note("ask", 1.0)
        return await super().generate(request, deltas)


class BusyBudget(BudgetAccounts):
    """Lets everyone wait a minute."""

    is_limited = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, diary: Diary) -> None:
        super().__init__((), diary.clock)
        self._diary = diary

    async def reserve(
        self, estimate: Usage, before_waiting: Callable[[], Awaitable[None]]
    ) -> Shortage | None:
        self._diary.note("reserve", MINUTE)
        return None


class DiarySpan(NoSpan):
    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    @contextmanager
    def generation(self, request: GenerationRequest, attempt: int) -> Generator[NoGenerationSpan]:
        self._diary.note("span begins")
        yield NoGenerationSpan()
        self._diary.note("span ends")


class DiaryTelemetry(NoTelemetry):
    def __init__(self, diary: Diary) -> None:
        self._diary = diary

    @contextmanager
    def run(
        self, checkpoint: Checkpoint, expert: Expert, resumed_from: str | None
    ) -> Generator[NoSpan]:
        yield DiarySpan(self._diary)


def job_of(diary: Diary, model: FakeModel) -> JobContext:
    context = job_context(
        ONE,
        model,
        skills=SlowSkills(diary),
        store=diary.store,
        clock=diary.clock,
        budget=BusyBudget(diary),
    )
    return replace(context, telemetry=DiaryTelemetry(diary))


def generation_seconds(events: list[ev.RunEvent]) -> list[float]:
    """From each `startGeneration` to the event that follows it."""
    return [
        (after.stamp.timestamp - before.stamp.timestamp) / 1000
        for before, after in pairwise(events)
        if before.type == "startGeneration"
    ]


async def test_skills_imports_and_reservations_are_waited_for_before_the_generation() -> None:
    diary = Diary()
    model = ColdModel(diary, [calls(call("echo", "c1")), done("x")])
    await work(job_of(diary, model))
    assert diary.entries == [
        *("connect skills", "warm up", "reserve", "span begins", "ask", "span ends"),
        *("reserve", "span begins", "ask", "span ends"),
    ]
    assert generation_seconds(diary.store.events_written) == [1.0, 1.0]


async def test_what_led_to_it_is_durable_before_a_skill_is_connected_or_a_token_is_asked_for() -> (
    None
):
    diary = Diary()
    await work(job_of(diary, ColdModel(diary, [done("x")])))
    assert diary.durable["connect skills"] == diary.durable["warm up"] == "startRun"
    assert diary.durable["span begins"] == diary.durable["ask"] == "startGeneration"


async def test_the_process_after_a_crash_gets_ready_before_its_span_too() -> None:
    diary = Diary()
    await work(job_of(diary, ColdModel(diary, [done("x")])))
    cut = diary.store.types("run1").index("startGeneration") + 1
    del diary.store.events_written[cut:]
    checkpoint = newest_checkpoints(diary.store.runs())["run1"]
    diary.entries.clear()
    await go_on(job_of(diary, ColdModel(diary, [done("y")])), checkpoint)
    reserved = ["connect skills", "warm up", "reserve"]
    assert diary.entries == [*reserved, "span begins", "ask", "span ends"]


async def test_a_provider_that_gives_no_token_is_tried_again_without_a_generation() -> None:
    diary = Diary(ManualClock())
    failure = ModelError(
        "no token", name="ServiceUnavailableError", provider="fake", status=503, is_retryable=True
    )
    end = await work(job_of(diary, ColdModel(diary, [done("x")], (failure,))))
    assert (end.status, end.text) == ("completed", "x")
    assert diary.store.types("run1")[:3] == ["startRun", "retry", "startGeneration"]
    assert (await replay(diary.store.events_written, ONE)).divergence is None


async def test_missing_credentials_stop_the_run_without_a_generation() -> None:
    diary = Diary()
    model = ColdModel(diary, [], (ConfigError("there are no credentials."),))
    end = await work(job_of(diary, model))
    assert end.error is not None
    assert end.error.message == "there are no credentials."
    assert diary.store.types("run1") == ["startRun", "stopRunByError"]
    assert (await replay(diary.store.events_written, ONE)).divergence is None


async def test_older_records_with_a_skill_that_failed_in_a_generation_can_be_replayed() -> None:
    store = FakeStore()
    skills = FakeSkills(failure=SkillError("time did not start", skill="time"))
    await work(job_context(ONE, FakeModel({}), skills=skills, store=store))
    started, stopped = store.events_written
    begun = ev.StartGeneration(stamp=stopped.stamp)
    later = stopped.stamp.model_copy(update={"sequence": 3})
    older = [started, begun, stopped.model_copy(update={"stamp": later})]
    assert (await replay(older, ONE)).is_identical
    assert (await replay([started, stopped], ONE)).is_identical
