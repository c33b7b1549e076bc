"""Whoever opens an engine decides how many jobs it drives, for how long and for how many tokens."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest

from perstack.core.messages import Usage
from perstack.definition.budget import Budget
from perstack.engine import Engine
from perstack.errors import JobStateError, NotFoundError
from perstack.runtime.start_plan import JobRequest
from perstack.settings import EngineLoad
from perstack.store.memory import MemoryStore
from tests.engines import engine_on
from tests.fakes import FakeModel, FakeSkills, ManualClock, call, calls, done
from tests.server.harness import until_called

pytestmark = pytest.mark.anyio

TOML = '[experts.a]\ninstruction = "Work."\n'


@dataclass
class AtMost:
    """Lets an engine drive so many jobs; `seen` are those it drove when it was asked."""

    jobs: int
    seen: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    async def __call__(self, engine: EngineLoad) -> None:
        await anyio.lowlevel.checkpoint()
        self.seen.append(engine.live_job_ids)
        if len(engine.live_job_ids) >= self.jobs:
            raise JobStateError("too many.")


@dataclass
class Limited:
    """An engine that may drive one job at a time."""

    engine: Engine
    admit: AtMost
    clock: ManualClock


@asynccontextmanager
async def limited(
    folder: Path, model: FakeModel, skills: FakeSkills, *, budget: Budget | None = None
) -> AsyncGenerator[Limited]:
    admit, clock = AtMost(1), ManualClock()
    async with engine_on(
        folder,
        model,
        toml=TOML,
        skills=skills,
        store=MemoryStore(clock=clock),
        clock=clock,
        budget=budget,
        admit=admit,
    ) as engine:
        yield Limited(engine, admit, clock)


def working() -> FakeModel:
    return FakeModel({"a": [calls(call("echo", "c1")), done("first"), done("second")]})


async def test_a_job_that_is_not_let_in_leaves_nothing_behind(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with limited(tmp_path, working(), skills) as here:
        first = await here.engine.start(JobRequest(expert_key="a", query="q"))
        await until_called(skills)
        for _ in range(2):
            with pytest.raises(JobStateError, match="too many"):
                await here.engine.start(JobRequest(expert_key="a", query="q", new_job_id="another"))
        assert await here.engine.start(JobRequest(job_id=first.job_id)) is first
        with pytest.raises(NotFoundError):
            await here.engine.start(JobRequest(job_id="nowhere", query="q"))
        assert [job.id for job in await here.engine.jobs()] == [first.job_id]
        assert skills.gate is not None
        skills.gate.set()
        await first.wait()
        second = await here.engine.start(JobRequest(job_id=first.job_id, query="more"))
        assert (await second.wait()).text == "second"
    assert here.admit.seen == [(), (first.job_id,), (first.job_id,), ()]


async def test_of_jobs_that_begin_at_once_no_more_are_let_in_than_may_run(tmp_path: Path) -> None:
    refused: list[JobStateError] = []
    skills = FakeSkills(gate=anyio.Event())
    async with limited(tmp_path, working(), skills) as here:

        async def begin() -> None:
            try:
                await here.engine.start(JobRequest(expert_key="a", query="q"))
            except JobStateError as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(begin)
        assert len(here.engine.live_job_ids) == 1
    assert len(refused) == 9


async def test_a_job_that_takes_too_long_is_stopped_and_can_go_on(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with limited(tmp_path, working(), skills, budget=Budget(max_seconds=90)) as here:
        job = await here.engine.start(JobRequest(expert_key="a", query="q"))
        with anyio.fail_after(30):
            view = await job.wait()
        assert view.job.status == "stoppedByBudget"
        assert view.checkpoint.exhausted is not None
        assert view.checkpoint.exhausted.message == "The budget of 90 seconds is used up."
        assert 90 in here.clock.slept


async def test_the_usage_of_a_day_is_that_of_generations_that_ended_in_it(
    tmp_path: Path,
) -> None:
    replies = [
        replace(done(text), usage=Usage(total_tokens=tokens, cost_usd=cost))
        for text, tokens, cost in (("one", 100, 1.5), ("two", 10, 0.25), ("three", 1, None))
    ]
    async with limited(tmp_path, FakeModel({"a": replies}), FakeSkills()) as here:
        first = await here.engine.start(JobRequest(expert_key="a", query="q"))
        await first.wait()
        here.clock.now += 1_000_000
        moment = here.clock.now
        again = await here.engine.start(JobRequest(job_id=first.job_id, query="more"))
        await again.wait()
        other = await here.engine.start(JobRequest(expert_key="a", query="q"))
        await other.wait()
        used = [await here.engine.usage_since(since) for since in (0, moment, moment + 1_000_000)]
        assert [each.total_tokens for each in used] == [111, 11, 0]
        assert [each.cost_usd or 0 for each in used] == [1.75, 0.25, 0]
