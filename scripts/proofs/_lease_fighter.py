"""A process that takes one job again and again and writes to it, and sometimes dies or stalls."""

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from _stage import ROOT

from perstack.errors import JobStateError, LeaseLostError
from perstack.runtime.ports import Lease, Store
from perstack.store.sqlite import open_sqlite_store
from tests.store.sample_job import RunStory

JOB = "job"
FIGHTER = ROOT / "scripts" / "proofs" / "_lease_fighter.py"
DEATHS = 0.02
"""How often a fighter dies with the job in its hands."""

PAUSE_SECONDS = 0.006
"""Between two turns of a fighter, at most; about as long as a turn, so that both have a chance."""

HASTE = 100
"""So much faster runs the clock of those who stall, so that nobody waits for leases to expire."""


class FastClock:
    """Time in a hurry, the same for all processes."""

    def now_ms(self) -> int:
        """Milliseconds, a hundred times too many."""
        return time.monotonic_ns() // 1_000_000 * HASTE


@dataclass
class Fighter:
    """What a process knows of the job.

    Attributes:
        name: Who it is.
        store: Where the job is.
        log: Where it notes what it did.
        run: Makes the events.
        position: Up to which it has read.
    """

    name: str
    store: Store
    log: Path
    run: RunStory
    position: int = 0

    async def catch_up(self) -> None:
        """Learn what the other has written."""
        self.position, events = await self.store.events(JOB, self.position)
        self.run.sequence += len(events)

    async def write(self, lease: Lease) -> None:
        """Write an event, and note it once it is acknowledged."""
        await self.catch_up()
        event = self.run.generate()
        await self.store.append([event], lease)
        self.position, _ = await self.store.events(JOB, self.position)
        self.note(did="wrote", fence=lease.fence, event=event.id)

    def note(self, **facts: Any) -> None:
        """One line of the log, with the time of all processes."""
        line = {"name": self.name, "at": time.monotonic_ns(), **facts}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


async def fight(fighter: Fighter, rounds: int, dice: random.Random) -> None:
    """Take the job whenever it is free, until it was taken so many times."""
    fence = 0
    while fence < rounds:
        try:
            lease = await fighter.store.acquire(JOB)
        except JobStateError:
            continue
        fence = lease.fence
        fighter.note(did="took", fence=fence)
        await fighter.write(lease)
        await fighter.write(lease)
        fighter.note(did="leaves", fence=fence)
        if dice.random() < DEATHS:
            os.kill(os.getpid(), signal.SIGKILL)
        await fighter.store.release(lease)
        await anyio.sleep(dice.uniform(0, PAUSE_SECONDS))


async def stall(fighter: Fighter) -> None:
    """Take the job, stand still until woken, and try to go on as if nothing had happened."""
    lease = await fighter.store.acquire(JOB)
    fighter.note(did="took", fence=lease.fence)
    await fighter.write(lease)
    os.kill(os.getpid(), signal.SIGSTOP)
    for effort in (fighter.write(lease), fighter.store.renew(lease)):
        try:
            await effort
        except LeaseLostError:
            fighter.note(did="was refused", fence=lease.fence)
        else:
            fighter.note(did="got through", fence=lease.fence)
    await fighter.store.release(lease)


async def main(kind: str, name: str, folder: Path, number: int) -> None:
    """Fight or stall."""
    clock = FastClock() if kind == "stall" else None
    async with open_sqlite_store(folder / "store.db", clock=clock) as store:
        fighter = Fighter(name, store, folder / f"{name}.jsonl", RunStory(JOB))
        await fighter.catch_up()
        if kind == "stall":
            await stall(fighter)
        else:
            await fight(fighter, number, random.Random(f"{name} {os.getpid()}"))  # noqa: S311 - a game


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
