"""Trails that are kept between two looks."""

from pathlib import Path

import anyio
import pytest

from perstack.core.events import RunEvent
from perstack.core.history import JobHistory
from perstack.errors import NotFoundError
from perstack.runtime.history_cache import MAX_CACHED_JOBS, JobHistoryCache
from perstack.runtime.start_plan import JobRequest
from perstack.store.memory import MemoryStore
from tests.engines import engine_on
from tests.fakes import FakeModel, done

pytestmark = pytest.mark.anyio


class CountingStore(MemoryStore):
    """Notes what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int]] = []

    async def events(self, job_id: str, after: int = 0) -> tuple[int, tuple[RunEvent, ...]]:
        self.asked.append((job_id, after))
        return await super().events(job_id, after)


async def jobs(folder: Path, store: MemoryStore, count: int) -> list[str]:
    model = FakeModel(lambda _: done("x"))
    async with engine_on(folder, model, store=store) as engine:
        ids: list[str] = []
        for _ in range(count):
            job = await engine.start(JobRequest(expert_key="reviewer", query="look"))
            await job.wait()
            ids.append(job.job_id)
    return ids


async def continued(folder: Path, store: MemoryStore, job_id: str) -> None:
    async with engine_on(folder, FakeModel(lambda _: done("y")), store=store) as engine:
        await (await engine.start(JobRequest(job_id=job_id, query="and?"))).wait()


async def whole(store: MemoryStore, job_id: str) -> JobHistory:
    _, events = await MemoryStore.events(store, job_id)
    return JobHistory(events)


async def test_a_second_look_reads_what_is_new_only(tmp_path: Path) -> None:
    store = CountingStore()
    (job_id,) = await jobs(tmp_path, store, 1)
    trails = JobHistoryCache(store)
    first = await trails.get(job_id)
    assert await trails.get(job_id) == first
    await continued(tmp_path, store, job_id)
    store.asked.clear()
    second = await trails.get(job_id)
    assert store.asked == [(job_id, len(first))]
    assert second[: len(first)] == first
    assert len(second) > len(first)
    assert second == (await whole(store, job_id)).recorded_events


async def test_those_who_look_at_the_same_time_see_the_same(tmp_path: Path) -> None:
    store = CountingStore()
    (job_id,) = await jobs(tmp_path, store, 1)
    trails = JobHistoryCache(store)
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(await trails.get(job_id)))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(look)
    assert seen == [len((await whole(store, job_id)).recorded_events)] * 5


async def test_only_the_trails_read_last_are_kept(tmp_path: Path) -> None:
    store = CountingStore()
    ids = await jobs(tmp_path, store, MAX_CACHED_JOBS + 1)
    trails = JobHistoryCache(store)
    for job_id in ids:
        await trails.get(job_id)
    store.asked.clear()
    await trails.get(ids[-1])
    await trails.get(ids[0])
    assert store.asked[0][1] > 0
    assert store.asked[1] == (ids[0], 0)


async def test_a_job_that_is_not_there_is_looked_for_each_time(tmp_path: Path) -> None:
    store = CountingStore()
    (job_id,) = await jobs(tmp_path, store, 1)
    trails = JobHistoryCache(store)
    await trails.get(job_id)
    for number in range(2 * MAX_CACHED_JOBS):
        with pytest.raises(NotFoundError):
            await trails.get(f"absent{number}")
    store.asked.clear()
    await trails.get(job_id)
    assert store.asked[0][1] > 0
