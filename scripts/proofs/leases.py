"""Two processes fight for one job 1,000 times: one owner at every moment, no lost event."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
from _kill_drive import Point
from _kill_stage import Jobs, jobs
from _lease_fighter import FIGHTER, JOB, FastClock, Fighter
from _stage import conclude, plain_environment, say, workplace

from perstack.core.events import RunEvent
from perstack.errors import JobStateError
from perstack.runtime.ports import Store
from perstack.store.sqlite import open_sqlite_store
from tests.store.sample_job import RunStory, write

ROUNDS = 1000
STALLS = 20
NAMES = ("left", "right")
PLACES = ("writing", "written", "asking", "answered", "calling", "called")
NUMBERS = (1, 3, 5, 7, 9, 11)
"""Where a whole job stands still: outside of transactions, as one in its midst holds up all."""

Line = dict[str, Any]


def started(kind: str, name: str, folder: Path) -> subprocess.Popen[bytes]:
    """A fighter as a process."""
    command = [sys.executable, str(FIGHTER), kind, name, str(folder), str(ROUNDS)]
    return subprocess.Popen(command, env=plain_environment())


def kept_up(name: str, folder: Path) -> int:
    """Have a fighter fight on, in a new process each time it has died; returns how often it did."""
    deaths = 0
    while True:
        code = started("fight", name, folder).wait()
        if code == 0:
            return deaths
        if code != -signal.SIGKILL:
            raise RuntimeError(f"{name} ended with {code}")
        deaths += 1


async def begun(folder: Path) -> None:
    """A job to fight for."""
    async with open_sqlite_store(folder / "store.db") as store:
        await store.release(await write(store, RunStory(JOB).start()))


async def stored(folder: Path) -> Sequence[RunEvent]:
    """The events of the job, in the order of writing."""
    async with open_sqlite_store(folder / "store.db") as store:
        _, events = await store.events(JOB)
        return events


def lines(folder: Path) -> list[Line]:
    """What all fighters did, in the order of time."""
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.jsonl")]
    found: list[Line] = [json.loads(line) for text in texts for line in text.splitlines()]
    return sorted(found, key=lambda line: line["at"])


def overlaps(did: Iterable[Line]) -> Generator[str]:
    """Moments at which one fighter did something with the job while it was the other's."""
    fence, is_held = 0, False
    for line in did:
        if line["did"] == "took":
            if is_held or line["fence"] <= fence:
                yield f"{line['name']} took {line['fence']} while {fence} was held"
            fence, is_held = line["fence"], True
        elif line["fence"] != fence or not is_held:
            yield f"{line['name']} {line['did']} with {line['fence']} at the time of {fence}"
        if line["did"] == "leaves":
            is_held = False


def losses(did: Iterable[Line], events: Sequence[RunEvent]) -> Generator[str]:
    """Acknowledged events that are not there, gaps, and events of an owner after the next one's."""
    fences = {line["event"]: line["fence"] for line in did if line["did"] == "wrote"}
    ids = [event.id for event in events]
    if lost := fences.keys() - set(ids):
        yield f"lost: {sorted(lost)}"
    if [event.stamp.sequence for event in events] != list(range(1, len(events) + 1)):
        yield "the events have gaps"
    order = [fences[name] for name in ids if name in fences]
    if order != sorted(order):
        yield "an owner wrote after the next one had begun"


def fought(folder: Path) -> list[str]:
    """The fight."""
    anyio.run(begun, folder)
    with ThreadPoolExecutor(len(NAMES)) as pool:
        deaths = sum(pool.map(kept_up, NAMES, [folder] * len(NAMES)))
    did = lines(folder)
    taken = [line["name"] for line in did if line["did"] == "took"]
    events = anyio.run(stored, folder)
    turns = sum(a != b for a, b in pairwise(taken))
    shares = ", ".join(f"{taken.count(name)} by {name}" for name in NAMES)
    say(
        f"taken {len(taken)} times, {shares}, {turns} changes of hands, {deaths} owners died;"
        f" {len(events) - 1} events"
    )
    faults = [*overlaps(did), *losses(did, events)]
    if len(taken) < ROUNDS or turns == 0 or deaths == 0:
        faults.append("the fight was none")
    return faults


async def taken_from_the_stalled(folder: Path) -> None:
    """Wait until the lease of a stalled owner has expired, and take the job."""

    async def take(store: Store) -> None:
        while True:
            try:
                lease = await store.acquire(JOB)
            except JobStateError:
                continue
            fighter = Fighter("other", store, folder / "other.jsonl", RunStory(JOB))
            fighter.note(did="took", fence=lease.fence)
            await fighter.write(lease)
            return

    async with open_sqlite_store(folder / "store.db", clock=FastClock()) as store:
        await take(store)


def stalled(folder: Path) -> list[str]:
    """An owner stands still until its lease is another's, and then wants to go on."""
    folder.mkdir()
    anyio.run(begun, folder)
    process = started("stall", "stalled", folder)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    anyio.run(taken_from_the_stalled, folder)
    process.send_signal(signal.SIGCONT)
    code = process.wait()
    did = lines(folder)
    refused = [line for line in did if line["did"] == "was refused"]
    faults = list(losses(did, anyio.run(stored, folder)))
    if code != 0 or len(refused) != 2:  # noqa: PLR2004 - its event and its renewal
        faults.append(f"a stalled owner was not refused: {code}, {did}")
    return faults


def overtaken(stage: Jobs, point: Point) -> list[str]:
    """A process stands still at a point of a whole job, and wakes when another has finished it."""
    order = replace(stage.order(), point=point, signal=signal.SIGSTOP, is_hasty=True)
    other = replace(order, point=None)
    codes = stage.run_stalled(order, lambda: stage.run(other))
    wrong = () if codes == (0, 0) else (f"the processes ended with {codes}",)
    faults = (*wrong, *stage.findings(order).faults)
    return [f"stalled at {point.place} {point.number}: {fault}" for fault in faults]


def main() -> None:
    """Fight and stall."""
    began = time.monotonic()
    with workplace() as folder:
        faults = fought(folder)
        for number in range(STALLS):
            faults += stalled(folder / f"stall-{number}")
    say(f"{STALLS} stalled owners woke up after another had taken the job; none could write")
    points = [Point(place, number) for place in PLACES for number in NUMBERS]
    with jobs() as stage:
        for point in points:
            faults += overtaken(stage, point)
    say(f"{len(points)} stalled processes woke up after another had finished their job of 20 steps")
    for fault in faults:
        say(f"  WRONG {fault}")
    took = time.monotonic() - began
    conclude(
        "leases",
        holds=not faults,
        seen=f"{ROUNDS} times one owner, {STALLS + len(points)} stalled owners refused,"
        f" {len(faults)} faults, in {took:.0f} s",
    )


if __name__ == "__main__":
    main()
