"""What every store promises about who may write, asked of each of them."""

from contextlib import suppress

import anyio
import pytest

from perstack.errors import JobStateError, LeaseLostError
from perstack.runtime.ports import Store
from perstack.store.leases import LEASE_SECONDS
from tests.store.backend import Backend
from tests.store.sample_job import RunStory, status_of, write

pytestmark = pytest.mark.anyio


async def test_a_held_job_is_not_acquired_again_by_anyone(backend: Backend) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    await us.acquire("job")

    with pytest.raises(JobStateError, match="this process"):
        await us.acquire("job")
    with pytest.raises(JobStateError, match="job"):
        await them.acquire("job")


async def test_a_released_job_is_free_and_its_lease_is_worthless(backend: Backend) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    run = RunStory()
    old = await write(us, run.start())
    await us.release(old)
    with pytest.raises(LeaseLostError):
        await us.append([run.generate()], old)

    new = await them.acquire("job")

    assert (new.owner, new.fence) == ("them", old.fence + 1)
    await us.release(old)
    await them.renew(new)


@pytest.mark.parametrize("cause", ["expired", "dead"])
async def test_a_job_is_taken_over_from_an_owner_that_is_gone(backend: Backend, cause: str) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    run = RunStory()
    start = run.start()
    old = await write(us, start)
    if cause == "expired":
        backend.clock.advance(LEASE_SECONDS)
    else:
        backend.dead.add("us")

    new = await them.acquire("job")

    with pytest.raises(LeaseLostError):
        await us.append([run.generate()], old)
    with pytest.raises(LeaseLostError):
        await us.renew(old)
    assert (await them.load("job")).runs == {"run": (start,)}
    assert new.fence == old.fence + 1


async def test_a_renewed_lease_lasts_longer(backend: Backend) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    lease = await us.acquire("job")
    backend.clock.advance(LEASE_SECONDS - 1)
    await us.renew(lease)
    backend.clock.advance(LEASE_SECONDS - 1)

    with pytest.raises(JobStateError):
        await them.acquire("job")


async def test_an_expired_lease_that_nobody_took_still_writes(backend: Backend) -> None:
    us = await backend.open_as("us")
    run = RunStory()
    lease = await write(us, run.start())
    backend.clock.advance(LEASE_SECONDS * 10)

    await us.append([run.generate()], lease)

    await us.renew(lease)
    assert await status_of(us) == "running"


async def test_only_one_of_many_acquires_a_free_job(backend: Backend) -> None:
    stores = [await backend.open_as(f"owner-{number}") for number in range(4)]
    won: list[str] = []

    async def try_to_acquire(store: Store) -> None:
        with suppress(JobStateError):
            won.append((await store.acquire("job")).owner)

    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(try_to_acquire, store)

    assert len(won) == 1


async def test_a_running_job_without_a_living_driver_is_interrupted(backend: Backend) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    run = RunStory()
    lease = await write(us, run.start())
    assert await status_of(them) == "running"

    backend.clock.advance(LEASE_SECONDS)
    assert await status_of(them) == "interrupted"
    await us.renew(lease)
    assert await status_of(them) == "running"
    backend.dead.add("us")
    assert await status_of(them) == "interrupted"

    assert [job.id for job in await them.jobs(status="interrupted")] == ["job"]
    assert await them.jobs(status="running") == ()


async def test_a_stopped_job_is_never_interrupted(store: Store) -> None:
    run = RunStory()
    lease = await write(store, run.start(), run.ask())
    await store.release(lease)

    assert await status_of(store) == "stoppedByInteractiveTool"


async def test_an_owner_learns_what_others_ask_it_to_stop(backend: Backend) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    await us.acquire("job")
    await us.acquire("other")
    await them.acquire("theirs")

    assert await them.request_stop("job", "no longer wanted")

    assert await us.stop_requests() == {"job": "no longer wanted"}
    assert await them.stop_requests() == {}


async def test_a_renewed_lease_is_still_asked_to_stop(backend: Backend) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    lease = await us.acquire("job")
    await them.request_stop("job", "enough")
    await us.renew(lease)

    assert await us.stop_requests() == {"job": "enough"}


async def test_what_was_asked_of_one_owner_does_not_concern_the_next(backend: Backend) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    lease = await us.acquire("job")
    await them.request_stop("job", "enough")
    await us.release(lease)

    await us.acquire("job")

    assert await us.stop_requests() == {}


@pytest.mark.parametrize("cause", ["never held", "released", "expired", "dead"])
async def test_a_job_that_nobody_drives_cannot_be_asked_to_stop(
    backend: Backend, cause: str
) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    if cause != "never held":
        lease = await us.acquire("job")
        if cause == "released":
            await us.release(lease)
    if cause == "expired":
        backend.clock.advance(LEASE_SECONDS)
    if cause == "dead":
        backend.dead.add("us")

    assert not await them.request_stop("job", "enough")
    assert await us.stop_requests() == {}


async def test_a_job_left_in_the_middle_is_an_orphan_until_somebody_drives_it(
    backend: Backend,
) -> None:
    us, them = await backend.open_as("us"), await backend.open_as("them")
    for number in range(3):
        run = RunStory(f"job-{number}", f"run-{number}", at=1000 * (number + 1))
        await write(us, run.start())
    done = RunStory("done", "run", at=2000)
    await write(us, done.start(), done.complete())
    assert await them.orphans(0) == ()

    backend.dead.add("us")
    lease = await them.acquire("job-2")

    assert [orphan.job_id for orphan in await them.orphans(0)] == ["job-1", "job-0"]
    assert [orphan.job_id for orphan in await them.orphans(1500)] == ["job-1"]
    await them.release(lease)
    assert [orphan.job_id for orphan in await them.orphans(2500)] == ["job-2"]


async def test_takeovers_in_a_row_are_counted_until_a_job_is_given_back(backend: Backend) -> None:
    owners = [await backend.open_as(name) for name in ("a", "b", "c", "d", "e")]
    await write(owners[0], RunStory().start())
    seen: list[int] = []
    lease = None
    for name, next_one in zip("abc", owners[1:4], strict=True):
        backend.dead.add(name)
        seen += [orphan.takeovers for orphan in await next_one.orphans(0)]
        lease = await next_one.acquire("job")
        await next_one.renew(lease)
    assert seen == [0, 1, 2]

    assert lease is not None
    await owners[3].release(lease)
    await owners[4].acquire("job")

    backend.dead.add("e")
    assert [orphan.takeovers for orphan in await owners[3].orphans(0)] == [0]
