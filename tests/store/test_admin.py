"""Old jobs leave the store, and nothing that another job needs goes with them."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from perstack.core.messages import ImageInlinePart, UserMessage
from perstack.errors import LeaseLostError, NotFoundError
from perstack.runtime.ports import TaskRecord
from perstack.store.event_codec import MAX_INLINE_CHARACTERS
from perstack.store.sqlite import SqliteStore, open_sqlite_store
from perstack.stores import store_path
from tests.fakes import ManualClock
from tests.store.sample_job import RunStory, write

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000, is_automatic=False)


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncGenerator[SqliteStore]:
    async with open_sqlite_store(
        store_path(tmp_path), owner="us", clock=clock, is_alive=lambda _: True
    ) as opened:
        yield opened


async def finished(store: SqliteStore, job_id: str, found: str = "Nothing.") -> RunStory:
    run = RunStory(job_id, f"run-of-{job_id}")
    await store.release(await write(store, run.start(), *run.step(found=found), run.fail()))
    return run


def count(tmp_path: Path, table: str) -> int:
    with closing(sqlite3.connect(store_path(tmp_path))) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


async def test_a_removed_job_leaves_no_trace_and_the_others_stay_whole(
    store: SqliteStore, tmp_path: Path
) -> None:
    await finished(store, "old")
    child = RunStory("old", "child")
    lease = await store.acquire("old")
    await store.append([child.start(), child.fail()], lease)
    await store.release(lease)
    await finished(store, "young")
    for job_id in ("old", "young"):
        task = TaskRecord(task_id=job_id, job_id=job_id, activation=0, created_at=7)
        assert await store.create_task(task)
    kept = await store.load("young")
    old, young = (await store.summary("old"), await store.summary("young"))

    assert await store.remove([old]) == ("old",)

    assert await store.jobs() == (young,)
    assert await store.load("young") == kept
    assert await store.task("old") is None
    assert await store.task("young") is not None
    with pytest.raises(NotFoundError):
        await store.events("old")
    assert [count(tmp_path, table) for table in ("jobs", "runs", "leases")] == [1, 1, 1]
    assert count(tmp_path, "events") == len(kept.runs["run-of-young"])


async def test_only_blobs_that_nothing_uses_are_removed(store: SqliteStore, tmp_path: Path) -> None:
    shared, own = "s" * 2 * MAX_INLINE_CHARACTERS, "o" * 2 * MAX_INLINE_CHARACTERS
    await finished(store, "old", shared)
    await finished(store, "older", own)
    run = RunStory("young", "of-young")
    picture = ImageInlinePart(encoded_data="AAAA" * MAX_INLINE_CHARACTERS, mime_type="image/png")
    start = run.start().model_copy(update={"input_messages": (UserMessage(contents=(picture,)),)})
    await store.release(await write(store, start, *run.step(found=shared), run.fail()))
    kept = await store.load("young")
    assert count(tmp_path, "blobs") == 3

    await store.remove([await store.summary("old"), await store.summary("older")])

    assert count(tmp_path, "blobs") == 2
    assert await store.load("young") == kept


async def test_blobs_that_a_crash_left_behind_go_with_the_next(
    store: SqliteStore, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(store_path(tmp_path))) as connection, connection:
        connection.execute("INSERT INTO blobs VALUES (?, ?)", ("0" * 64, b"left"))
    await store.remove([])
    assert count(tmp_path, "blobs") == 0


async def test_a_driven_job_stays(store: SqliteStore) -> None:
    run = await finished(store, "job")
    listed = await store.summary("job")
    lease = await store.acquire("job")
    assert await store.remove([listed]) == ()
    await store.append([run.resume()], lease)


async def test_a_job_that_went_on_since_it_was_listed_stays(store: SqliteStore) -> None:
    run = await finished(store, "job")
    listed = await store.summary("job")
    await store.release(await write(store, run.resume(), run.cancel()))
    assert await store.remove([listed]) == ()
    assert (await store.summary("job")).status == "stoppedByCancellation"


async def test_whoever_lost_a_job_cannot_write_to_it_after_its_removal(
    store: SqliteStore, clock: ManualClock
) -> None:
    run = RunStory()
    lease = await write(store, run.start(), run.fail())
    clock.advance(60)
    assert await store.remove([await store.summary("job")]) == ("job",)
    with pytest.raises(LeaseLostError):
        await store.append([run.resume()], lease)
    with pytest.raises(LeaseLostError):
        await store.renew(lease)


async def test_an_id_may_be_used_again(store: SqliteStore) -> None:
    await finished(store, "job")
    last, _ = await store.events("job")
    await store.remove([await store.summary("job")])
    await finished(store, "job")
    # A reader that waits for what comes after a position misses nothing of the new one.
    assert len((await store.events("job", last))[1]) == 9


async def test_the_file_shrinks_and_loses_nothing(store: SqliteStore, tmp_path: Path) -> None:
    for number in range(20):
        await finished(store, f"old-{number}", "x" * 10_000)
    await finished(store, "young")
    kept = await store.load("young")
    old = [job for job in await store.jobs() if job.id != "young"]
    await store.remove(old)
    sizes = await store.vacuum()
    assert sizes is not None
    assert sizes[1] < sizes[0] / 2
    assert store_path(tmp_path).stat().st_size == sizes[1]
    assert await store.load("young") == kept
    await finished(store, "next")


async def test_the_file_stays_as_it_is_while_a_job_is_driven(store: SqliteStore) -> None:
    await finished(store, "old")
    await store.acquire("other")
    await store.remove([await store.summary("old")])
    assert await store.vacuum() is None


async def test_the_file_stays_as_it_is_while_somebody_writes(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perstack.store.admin.VACUUM_LOCK_TIMEOUT_SECONDS", 0.01)
    await finished(store, "old")
    with closing(sqlite3.connect(store_path(tmp_path), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await store.vacuum() is None
        other.execute("ROLLBACK")


async def test_jobs_are_removed_while_another_process_goes_on_writing(
    store: SqliteStore, tmp_path: Path, clock: ManualClock
) -> None:
    shared = "s" * 2 * MAX_INLINE_CHARACTERS
    for number in range(30):
        await finished(store, f"old-{number}", shared)
    old = [job for job in await store.jobs() if job.id.startswith("old")]
    path = store_path(tmp_path)
    run = RunStory("live", "live")

    async def write_on() -> None:
        async with open_sqlite_store(
            path, owner="them", clock=clock, is_alive=lambda _: True
        ) as theirs:
            lease = await write(theirs, run.start())
            for _ in range(30):
                await theirs.append(run.step(found=shared), lease)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_on)
            for job in old:
                assert await store.remove([job]) == (job.id,)
    assert len((await store.load("live")).runs["live"]) == 1 + 30 * 7
    assert [job.id for job in await store.jobs()] == ["live"]
