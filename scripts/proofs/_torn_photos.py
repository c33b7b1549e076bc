"""Copies of a store's files around each commit, and what a power cut may have made of them."""

import random
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

FILES = ("store.db", "store.db-wal")
TRACES = ("effects.jsonl", "calls.jsonl", "acknowledged")
SECTOR = 512
"""What a disk writes whole, or not at all."""

Survivor = Literal["either", "after"]
"""Which of two states may be found: that before a commit or that after it, or the latter only."""


class Photographer:
    """Copies the files of a job's store, in the thread that writes them.

    In `photos/N` are `after`, the files right after the N-th commit of events, `before`, the files
    right before the next one begins, and what the job had left elsewhere when that one was about to
    become durable.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._photos = folder / "photos"
        self._commits = 0

    def beginning(self) -> None:
        """A transaction begins."""
        place = self._photos / str(self._commits)
        if not (place / "after").exists():
            self._copy(FILES, self._folder / "perstack", place / "after")
        self._copy(FILES, self._folder / "perstack", place / "before")

    def committing(self) -> None:
        """A transaction with events is about to become durable."""
        self._copy(TRACES, self._folder, self._photos / str(self._commits))
        self._commits += 1

    def _copy(self, names: tuple[str, ...], source: Path, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            if (source / name).exists():
                shutil.copyfile(source / name, target / name)


@dataclass(frozen=True)
class Disk:
    """The files of a store as they lie on a disk."""

    database: bytes
    log: bytes

    def write(self, folder: Path) -> None:
        """Put them where a store looks for them."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in zip(FILES, (self.database, self.log), strict=True):
            (folder / name).write_bytes(content)


def disk_at(folder: Path) -> Disk:
    """The files in a folder."""
    database, log = (folder / name for name in FILES)
    return Disk(database.read_bytes(), log.read_bytes() if log.exists() else b"")


@dataclass(frozen=True)
class Moment:
    """A commit in flight.

    Attributes:
        traces: Where the other files of the job at that moment are.
        before: The store before it.
        after: The store after it.
    """

    traces: Path
    before: Disk
    after: Disk


def moments(folder: Path) -> Generator[Moment]:
    """Every commit of a job that was photographed."""
    photos = folder / "photos"
    for number in count():
        traces, following = photos / str(number), photos / str(number + 1)
        if not following.exists():
            return
        yield Moment(traces, disk_at(traces / "before"), disk_at(following / "after"))


@dataclass(frozen=True)
class Torn:
    """What a power cut left of a commit."""

    how: str
    disk: Disk
    survivor: Survivor


def torn(moment: Moment, dice: random.Random) -> Generator[Torn]:
    """Some of the ways in which the power can fail during a commit."""
    old, new = moment.before, moment.after
    first = _first_difference(old.log, new.log)
    cuts = {first, len(new.log) - 1, *(dice.randint(first, len(new.log)) for _ in range(4))}
    for cut in sorted(cuts):
        log = new.log[:cut] + old.log[cut:]
        yield Torn(f"log written up to byte {cut}", Disk(old.database, log), "either")
    cut = dice.randint(first, len(new.log))
    blank = new.log[:cut].ljust(len(new.log), b"\0")
    yield Torn(f"log grown, but blank from byte {cut}", Disk(old.database, blank), "either")
    mixed = _mixed(old.log, new.log, first, dice)
    yield Torn("sectors of the log in any order", Disk(old.database, mixed), "either")
    noise = new.log[:-4000] + dice.randbytes(4000)
    yield Torn("last page of the log torn", Disk(old.database, noise), "either")
    if old.database != new.database:
        # The log is whole before the database is touched.
        for _ in range(3):
            database = _mixed(old.database, new.database, 0, dice)
            yield Torn("pages of the database torn", Disk(database, new.log), "after")


def _first_difference(old: bytes, new: bytes) -> int:
    pairs = enumerate(zip(old, new, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(old), len(new)))


def _mixed(old: bytes, new: bytes, first: int, dice: random.Random) -> bytes:
    """Each sector from `first` on is the old or the new one."""
    start = first - first % SECTOR
    mixed = bytearray(new[:start])
    for place in range(start, len(new), SECTOR):
        chosen = dice.choice((old, new))[place : place + SECTOR]
        mixed += chosen.ljust(min(SECTOR, len(new) - place), b"\0")
    return bytes(mixed)
