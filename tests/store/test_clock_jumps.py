"""The machine's clock jumps; leases do not."""

from dataclasses import dataclass
from pathlib import Path

import anyio.lowlevel
import pytest

from perstack.errors import JobStateError
from perstack.runtime.ports import SystemClock
from perstack.store.leases import EvenClock
from perstack.store.memory import MemoryStore
from perstack.store.sqlite import open_sqlite_store
from tests.store.sample_job import RunStory, write

pytestmark = pytest.mark.anyio
HOUR_MS = 3_600_000


@dataclass
class JumpingClock(SystemClock):
    """The machine's clock after somebody has set it."""

    jump_ms: int = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.jump_ms


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS, 400 * 24 * HOUR_MS])
async def test_a_live_job_looks_alive_to_every_process_of_a_store(
    tmp_path: Path, jump_ms: int
) -> None:
    path, clock = tmp_path / "store.db", JumpingClock()
    async with open_sqlite_store(path, owner="us", clock=clock, is_alive=lambda _: True) as us:
        lease = await write(us, RunStory().start())
        clock.jump_ms = jump_ms
        later = JumpingClock(jump_ms)
        async with open_sqlite_store(
            path, owner="them", clock=later, is_alive=lambda _: True
        ) as them:
            for store in (us, them):
                assert (await store.summary(lease.job_id)).status == "running"
                assert await store.orphans(0) == ()
            with pytest.raises(JobStateError, match="already being driven"):
                await them.acquire(lease.job_id)
            await us.renew(lease)
            assert (await them.summary(lease.job_id)).status == "running"


@pytest.mark.parametrize("jump_ms", [HOUR_MS, -HOUR_MS])
async def test_a_job_of_a_dead_process_is_free_at_once(tmp_path: Path, jump_ms: int) -> None:
    path = tmp_path / "store.db"
    async with open_sqlite_store(path, owner="us", is_alive=lambda _: True) as us:
        lease = await write(us, RunStory().start())
        async with open_sqlite_store(
            path, owner="them", clock=JumpingClock(jump_ms), is_alive=lambda _: False
        ) as them:
            assert (await them.summary(lease.job_id)).status == "interrupted"
            assert (await them.acquire(lease.job_id)).fence == lease.fence + 1


async def test_a_job_in_memory_looks_alive() -> None:
    clock = JumpingClock()
    store = MemoryStore(clock=clock)
    lease = await write(store, RunStory().start())
    clock.jump_ms = HOUR_MS
    assert (await store.summary(lease.job_id)).status == "running"


async def test_the_clock_of_leases_begins_at_the_machines_and_goes_on() -> None:
    clock = EvenClock.beginning_at(1_000_000)
    first = clock.now_ms()
    await anyio.lowlevel.checkpoint()
    assert 1_000_000 <= first <= clock.now_ms()
