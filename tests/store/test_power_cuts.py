"""The power fails in the middle of a commit: what is left of it on the disk is all or nothing."""

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from perstack.errors import StoreError
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.store.sample_job import RunStory, write

pytestmark = pytest.mark.anyio

SECTOR = 512


@dataclass(frozen=True)
class Files:
    """The files of a store, as they are on a disk."""

    database: bytes
    log: bytes

    def put(self, path: Path) -> None:
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(parents=True)
        path.write_bytes(self.database)
        path.with_name("store.db-wal").write_bytes(self.log)


def files_of(path: Path) -> Files:
    return Files(path.read_bytes(), path.with_name("store.db-wal").read_bytes())


async def commit_in_flight(path: Path) -> tuple[Files, Files]:
    """The files before and after a commit of seven events, after eight others."""
    run = RunStory()
    async with open_sqlite_store(path) as store:
        lease = await write(store, run.start(), *run.step("s" * 2000))
        before = files_of(path)
        await store.append(run.step("s" * 20_000, "f" * 2000), lease)
        return before, files_of(path)


async def stored(path: Path) -> int:
    """How many events there are, after the next one could be written."""
    run = RunStory()
    async with open_sqlite_store(path, owner="next", is_alive=lambda _: False) as store:
        count = run.sequence = len((await store.events("job"))[1])
        lease = await store.acquire("job")
        await store.append([run.cancel()], lease)
        return count


def cuts(before: Files, after: Files) -> Iterator[Files]:
    """Ways in which a commit is written halfway."""
    dice = random.Random(7)  # noqa: S311 - a game, not a secret
    old, new = before.log, after.log
    for cut in (len(old), len(new) - 1, *(dice.randint(len(old), len(new)) for _ in range(10))):
        yield Files(before.database, new[:cut])
        yield Files(before.database, new[:cut].ljust(len(new), b"\0"))
    start = len(old) - len(old) % SECTOR
    for _ in range(10):
        sectors = [
            new[place : place + SECTOR]
            if dice.random() < 0.9
            else bytes(len(new[place : place + SECTOR]))
            for place in range(start, len(new), SECTOR)
        ]
        sectors[0] = new[start : start + SECTOR]
        yield Files(before.database, new[:start] + b"".join(sectors))


async def test_a_commit_that_was_cut_off_is_there_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    before, after = await commit_in_flight(path)
    counts: set[int] = set()
    for left in cuts(before, after):
        left.put(path)
        counts.add(await stored(path))
    after.put(path)
    assert counts <= {8, 15}
    assert 8 in counts
    assert await stored(path) == 15


@pytest.mark.parametrize("length", [10, 100, 5_000, 12_000])
async def test_a_database_that_was_cut_off_is_refused_with_words(
    tmp_path: Path, length: int
) -> None:
    path = store_path(tmp_path)
    async with open_sqlite_store(path) as store:
        run = RunStory()
        await write(store, run.start(), *run.step("s" * 60_000))
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(StoreError, match=r"store\.db (is damaged|is not a perstack store)"):
        await stored(path)
    assert path.read_bytes() == whole[:length]
