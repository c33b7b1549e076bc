"""`perstack gc`: removes old jobs from a store, and says which and how much it was."""

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import anyio

from perstack.cli.args import add_store_arguments
from perstack.cli.formatting import format_count
from perstack.cli.job_log import NO_LIMIT, find_store
from perstack.cli.render.log import job_line
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.core.checkpoint import FINISHED_STATUSES, JOB_STATUS_OF, CheckpointStatus, Job
from perstack.runtime.ports import SystemClock
from perstack.stores import StoreAdmin, open_store, sqlite_url

HOUR_MS = 60 * 60 * 1000
UNIT_MS = {"h": HOUR_MS, "d": 24 * HOUR_MS, "w": 7 * 24 * HOUR_MS}
UNFINISHED_STATUSES = ("stoppedByInteractiveTool", "interrupted")
THOUSAND = 1000


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """Which jobs stay: a number of the newest, and those changed within some milliseconds."""

    count: int = 0
    milliseconds: int = 0


def add_arguments(parser: ArgumentParser) -> None:
    add_store_arguments(parser)
    parser.add_argument(
        "--keep",
        type=parse_retention_rule,
        action="append",
        required=True,
        metavar="AGE|N",
        help="what stays: jobs of the last 12h, 30d or 8w, or the newest N; repeatable",
    )
    parser.add_argument(
        "--status",
        action="append",
        type=_job_status,
        choices=(*FINISHED_STATUSES, *UNFINISHED_STATUSES),
        help="remove only jobs with this status; repeatable",
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also remove jobs that wait for an answer or were interrupted",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")


def _job_status(name: str) -> str:
    """The status of a job, also by the name that the checkpoints of its runs have for it."""
    return JOB_STATUS_OF.get(cast("CheckpointStatus", name), name)


def execute(options: Namespace, terminal: Terminal) -> int:
    anyio.run(_remove_expired_jobs, find_store(options), options, terminal)
    return EXIT_SUCCESS


async def _remove_expired_jobs(storage: Path, options: Namespace, terminal: Terminal) -> None:
    clock = SystemClock()
    async with open_store(sqlite_url(storage), clock) as store:
        jobs = await store.jobs(limit=NO_LIMIT)
        statuses = options.status or (
            *FINISHED_STATUSES,
            *(UNFINISHED_STATUSES if options.all else ()),
        )
        expired = [
            job
            for job in expired_jobs(jobs, options.keep, now_ms=clock.now_ms())
            if job.status in statuses
        ]
        event_bytes = await store.event_bytes(expired)
        if options.dry_run:
            removed, verb = {job.id for job in expired}, "would remove"
        else:
            removed, verb = set(await store.remove(expired)), "removed"
        terminal.write_lines(job_line(job) for job in expired if job.id in removed)
        count = format_count(len(removed), "job")
        terminal.info(f"{verb} {count} with about {format_bytes(event_bytes)} of events")
        if removed and not options.dry_run:
            await _shrink_store(store, storage, terminal)


async def _shrink_store(store: StoreAdmin, storage: Path, terminal: Terminal) -> None:
    sizes = await store.vacuum()
    if sizes is not None:
        before, after = map(format_bytes, sizes)
        terminal.info(f"{storage}: {before} before, {after} now", "dim")
    else:
        terminal.info(
            f"{storage} stays as large as it is while jobs run; what is free is used by the next.",
            "dim",
        )


def expired_jobs(jobs: Iterable[Job], rules: Sequence[RetentionRule], *, now_ms: int) -> list[Job]:
    """The jobs that no rule keeps, those touched last first."""
    newest = sorted(jobs, key=lambda job: job.updated_at, reverse=True)
    count = max(rule.count for rule in rules)
    since = now_ms - max(keep.milliseconds for keep in rules)
    return [job for job in newest[count:] if job.updated_at <= since]


def parse_retention_rule(text: str) -> RetentionRule:
    """`100` or an age such as `30d`."""
    match = re.fullmatch(r"(\d{1,9})([hdw]?)", text, re.ASCII)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is neither a number nor an age such as 12h, 30d or 8w")
    number, unit = int(match[1]), match[2]
    return (
        RetentionRule(milliseconds=number * UNIT_MS[unit]) if unit else RetentionRule(count=number)
    )


def format_bytes(count: int) -> str:
    amount = float(count)
    for unit in ("bytes", "kB", "MB"):
        if amount < THOUSAND:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= THOUSAND
    return f"{amount:.1f} GB"
