"""Cut the power in every commit, damage files, fill the disk: nothing acknowledged is lost."""

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import copyfile, rmtree

import anyio
from _kill_drive import Order
from _kill_job import JOB_ID
from _kill_stage import WORKERS, Jobs, jobs
from _stage import conclude, say
from _torn_photos import TRACES, Disk, Moment, Torn, moments, torn

from perstack.core.events import RunEvent
from perstack.errors import NotFoundError, PerstackError, StoreError
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path

CHECKPOINT_PAGES = 24
"""So that the log is folded back again and again, while it is written about."""

GOING_ON_EVERY = 25
LIMITS = range(60_000, 760_000, 28_000)
SEED = 4

Events = dict[str, RunEvent]


@dataclass
class Ledger:
    """What was tried, and what went wrong."""

    tried: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])

    def note(self, kind: str, faults: Iterable[str] = ()) -> None:
        """Something was tried."""
        self.tried[kind] += 1
        self.faults += [f"{kind}: {fault}" for fault in faults]

    def say(self) -> None:
        """Report."""
        for kind, times in self.tried.items():
            say(f"  {times:5} times {kind}")
        for fault in self.faults:
            say(f"  WRONG {fault}")


@dataclass(frozen=True)
class Lab:
    """A folder in which stores are opened that may be damaged."""

    folder: Path

    def opened(self, disk: Disk) -> Events:
        """The events of the job as a store on this disk has them.

        Raises:
            PerstackError: It cannot be opened or read.
        """
        return anyio.run(_events, self._put(disk))

    def is_sound(self, disk: Disk) -> bool:
        """Whether SQLite finds nothing wrong with it, once perstack has had it open."""
        path = self._put(disk)
        anyio.run(_events, path)
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def _put(self, disk: Disk) -> Path:
        path = store_path(self.folder)
        rmtree(path.parent, ignore_errors=True)
        disk.write(path.parent)
        return path


async def _events(path: Path) -> Events:
    async with open_sqlite_store(path) as store:
        try:
            _, events = await store.events(JOB_ID)
        except NotFoundError:
            return {}
        return {event.id: event for event in events}


def photographed(stage: Jobs, checkpoint_pages: int | None) -> list[Moment]:
    """All commits of a job that nobody disturbed."""
    order = replace(stage.order(), has_photos=True, checkpoint_pages=checkpoint_pages)
    code = stage.run(order)
    faults = stage.findings(order).faults
    if code or faults:
        raise RuntimeError(f"undisturbed, the job goes wrong: {code}, {faults}")
    return list(moments(Path(order.folder)))


def power_cuts(stage: Jobs, lab: Lab, found: Sequence[Moment]) -> Ledger:
    """In each commit: what was durable before is there, and the commit wholly or not at all."""
    ledger, dice = Ledger(), random.Random(SEED)  # noqa: S311 - a game, not a secret
    going_on: list[tuple[Moment, Torn]] = []
    for moment in found:
        before, after = lab.opened(moment.before), lab.opened(moment.after)
        for one in torn(moment, dice):
            ledger.note(_kind(one.how), _wrong_state(lab, one, before, after))
            if ledger.tried.total() % GOING_ON_EVERY == 0:
                going_on.append((moment, one))

    def gone_on(pair: tuple[Moment, Torn]) -> tuple[str, ...]:
        return _gone_on(stage, *pair)

    with ThreadPoolExecutor(WORKERS) as pool:
        for faults in pool.map(gone_on, going_on):
            ledger.note("the job went on from there to its end", faults)
    return ledger


def _kind(how: str) -> str:
    return how.partition(" byte")[0]


def _wrong_state(lab: Lab, one: Torn, before: Events, after: Events) -> Generator[str]:
    try:
        events = lab.opened(one.disk)
        if not lab.is_sound(one.disk):
            yield f"{one.how}: the file is not sound"
    except PerstackError as error:
        yield f"{one.how}: {error}"
        return
    allowed = [after] if one.survivor == "after" else [before, after]
    if events not in allowed:
        lost, new = before.keys() - events.keys(), events.keys() - before.keys()
        yield f"{one.how}: lost {sorted(lost)}, found {sorted(new)}"


def _gone_on(stage: Jobs, moment: Moment, one: Torn) -> tuple[str, ...]:
    order = stage.order()
    folder = Path(order.folder)
    one.disk.write(store_path(folder).parent)
    for name in TRACES:
        if (moment.traces / name).exists():
            copyfile(moment.traces / name, folder / name)
    code = stage.run(order)
    wrong = () if code == 0 else (f"{one.how}: the process that went on ended with {code}",)
    return (*wrong, *(f"{one.how}: {fault}" for fault in stage.findings(order).faults))


def lost_logs(lab: Lab, found: Sequence[Moment]) -> Ledger:
    """A disk that lied: its log ends anywhere. What is left is what was there at some moment.

    The log was never folded back, else the database would hold more than the rest of the log.
    """
    ledger, dice = Ledger(), random.Random(SEED)  # noqa: S311 - a game, not a secret
    known = [lab.opened(moment.after) for moment in found]
    known += [lab.opened(found[0].before), {}]
    longest = found[-1].after
    for cut in sorted({0, 1, 31, 32, *(dice.randrange(len(longest.log)) for _ in range(96))}):
        disk = Disk(longest.database, longest.log[:cut])
        faults: list[str] = []
        try:
            if lab.opened(disk) not in known:
                faults.append(f"cut at {cut}: something that never was")
        except PerstackError as error:
            faults.append(f"cut at {cut}: {error}")
        ledger.note("the log ended anywhere", faults)
    return ledger


def damaged_databases(lab: Lab, last: Moment) -> Ledger:
    """A damaged database is refused with words, or still right in all it says."""
    ledger, dice = Ledger(), random.Random(SEED)  # noqa: S311 - a game, not a secret
    whole, truth = last.after, lab.opened(last.after)
    size = len(whole.database)

    def garbage(content: bytes, place: int) -> bytes:
        return content[:place] + dice.randbytes(4096) + content[place + 4096 :]

    ways: dict[str, Callable[[int], Disk]] = {
        "database cut off": lambda place: Disk(whole.database[:place], whole.log),
        "database and log cut off": lambda place: Disk(whole.database[:place], b""),
        "garbage in the database": lambda place: Disk(garbage(whole.database, place), whole.log),
        "garbage, and no log": lambda place: Disk(garbage(whole.database, place), b""),
    }
    for way, damaged in ways.items():
        for place in sorted({1, 16, 100, *(dice.randrange(size) for _ in range(37))}):
            disk = damaged(place)
            faults: list[str] = []
            try:
                events = lab.opened(disk)
                said = "read as it was"
                if any(truth.get(name) != event for name, event in events.items()):
                    faults.append(f"at {place}: it says something that never was")
            except StoreError as error:
                said = "refused with words"
                if "store.db" not in str(error) or not error.hint:
                    faults.append(f"at {place}: unclear: {error}")
            ledger.note(f"{way}: {said}", faults)
    return ledger


def full_disks(stage: Jobs) -> Ledger:
    """The disk is full in mid-write: the job stops, and goes on when there is room again."""
    ledger = Ledger()

    def one(limit: int) -> tuple[str, ...]:
        order = replace(stage.order(), most_bytes=limit)
        stage.run(order)
        again: Order = replace(order, most_bytes=None)
        code = stage.run(again)
        wrong = () if code == 0 else (f"the process that went on ended with {code}",)
        faults = (*wrong, *stage.findings(order).faults)
        return tuple(f"full at {limit} bytes: {fault}" for fault in faults)

    with ThreadPoolExecutor(WORKERS) as pool:
        for faults in pool.map(one, LIMITS):
            ledger.note("the disk was full, and then not", faults)
    return ledger


def main() -> None:
    """Tear, open, look, go on."""
    began = time.monotonic()
    with jobs() as stage:
        lab = Lab(stage.home / "lab")
        found = photographed(stage, CHECKPOINT_PAGES)
        say(f"a job with {len(found)} commits")
        ledgers: list[Ledger] = []
        for ledger in (
            power_cuts(stage, lab, found),
            lost_logs(lab, photographed(stage, None)),
            damaged_databases(lab, found[-1]),
            full_disks(stage),
        ):
            ledger.say()
            ledgers.append(ledger)
    tried = sum(ledger.tried.total() for ledger in ledgers)
    faults = sum(len(ledger.faults) for ledger in ledgers)
    took = time.monotonic() - began
    conclude(
        "torn-store",
        holds=faults == 0,
        seen=f"{tried} torn stores, {faults} faults, in {took:.0f} s",
    )


if __name__ == "__main__":
    main()
