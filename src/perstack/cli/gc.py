"""`perstack gc`: removes old jobs from a store, and says which and how much it was."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from perstack.cli.arguments import add_store_arguments
from perstack.cli.exits import COMPLETED
from perstack.cli.history import find_store
from perstack.cli.output import Terminal
from perstack.cli.story import job_line
from perstack.core.checkpoint import Job
from perstack.runtime.clock import SystemClock
from perstack.store.sqlite import SqliteStore, open_sqlite_store

HOUR_MS = 60 * 60 * 1000
UNITS = {"h": HOUR_MS, "d": 24 * HOUR_MS, "w": 7 * 24 * HOUR_MS}
FINISHED = ("completed", "stoppedByMaxSteps", "stoppedByError", "stoppedByCancellation")
OPEN = ("stoppedByInteractiveTool", "interrupted")
EVERYTHING = 2**31
THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays: so many of the newest jobs, and those touched in the last milliseconds."""

    count: int = 0
    milliseconds: int = 0


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_store_arguments(parser)
    parser.add_argument(
        "--keep",
        type=keep,
        action="append",
        required=True,
        metavar="AGE|N",
        help="what stays: jobs of the last 12h, 30d or 8w, or the newest N; repeatable",
    )
    parser.add_argument(
        "--status",
        action="append",
        choices=(*FINISHED, *OPEN),
        help="remove only jobs with this status; repeatable",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also remove jobs that wait for an answer or were interrupted",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Remove what is not to be kept.

    Raises:
        NotFoundError: No job has run there.
        StoreError: The store cannot be read or written.
    """
    storage = find_store(options.workspace, options.config, Path.cwd())
    anyio.run(partial(_collect, storage, options, terminal))
    return COMPLETED


async def _collect(storage: Path, options: Namespace, terminal: Terminal) -> None:
    clock = SystemClock()
    async with open_sqlite_store(storage, clock=clock) as store:
        jobs = await store.jobs(limit=EVERYTHING)
        statuses = options.status or (*FINISHED, *(OPEN if options.all else ()))
        old = [
            job
            for job in outdated(jobs, options.keep, now_ms=clock.now_ms())
            if job.status in statuses
        ]
        weight = await store.weight_of(old)
        if options.dry_run:
            _list(old, terminal)
            terminal.note(f"would remove {_jobs(len(old))} with about {size(weight)} of events")
            return
        removed = set(await store.remove(old))
        _list((job for job in old if job.id in removed), terminal)
        terminal.note(f"removed {_jobs(len(removed))} with about {size(weight)} of events")
        if removed:
            await _give_back(store, storage, terminal)


async def _give_back(store: SqliteStore, storage: Path, terminal: Terminal) -> None:
    sizes = await store.shrink()
    if sizes is not None:
        before, after = map(size, sizes)
        terminal.note(f"{storage}: {before} before, {after} now", "dim")
    else:
        terminal.note(
            f"{storage} stays as large as it is while jobs run; what is free is used by the next.",
            "dim",
        )


def outdated(jobs: Iterable[Job], keeps: Sequence[Keep], *, now_ms: int) -> list[Job]:
    """The jobs that no rule keeps, those touched last first."""
    newest = sorted(jobs, key=lambda job: job.updated_at, reverse=True)
    count = max(keep.count for keep in keeps)
    since = now_ms - max(keep.milliseconds for keep in keeps)
    return [job for job in newest[count:] if job.updated_at <= since]


def keep(text: str) -> Keep:
    """`100` or an age such as `30d`."""
    found = re.fullmatch(r"(\d{1,9})([hdw]?)", text, re.ASCII)
    if found is None:
        raise ArgumentTypeError(f"{text!r} is neither a number nor an age such as 12h, 30d or 8w")
    number, unit = int(found[1]), found[2]
    return Keep(milliseconds=number * UNITS[unit]) if unit else Keep(count=number)


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < THOUSAND:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= THOUSAND
    return f"{amount:.1f} GB"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _list(jobs: Iterable[Job], terminal: Terminal) -> None:
    for job in jobs:
        terminal.line(job_line(job))
