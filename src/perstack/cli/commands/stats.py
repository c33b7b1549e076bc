"""`perstack stats`: what the jobs of a workspace add up to."""

from argparse import ArgumentParser, Namespace
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio

from perstack.analysis.statistics import GroupedStats
from perstack.cli.args import add_store_arguments, positive_int
from perstack.cli.job_log import find_store
from perstack.cli.render.stats import StatsReport, print_stats
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.runtime.ports import SystemClock
from perstack.stores import open_store, sqlite_url

DAY_MS = 24 * 60 * 60 * 1000


def add_arguments(parser: ArgumentParser) -> None:
    add_store_arguments(parser)
    parser.add_argument(
        "--since",
        type=positive_int,
        metavar="DAYS",
        help="only jobs that began in the last so many",
    )
    parser.add_argument(
        "--by", choices=("expert", "model", "day"), help="a line for each, instead of for each tool"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Show the requested data.

    Raises:
        NotFoundError: No job has run there.
        StoreError: The store cannot be read.
    """
    storage = find_store(options.workspace, options.config, Path.cwd())
    days: int | None = options.since
    since_ms = None if days is None else SystemClock().now_ms() - days * DAY_MS
    grouped_stats = anyio.run(partial(_read_stats, storage, since_ms))
    report = StatsReport(
        storage=storage, since_ms=since_ms, grouped_stats=grouped_stats, by=options.by
    )
    print_stats(report, terminal, is_json=options.json)
    return EXIT_SUCCESS


async def _read_stats(storage: Path, since_ms: int | None) -> GroupedStats:
    grouped_stats = GroupedStats(_local_day)
    async with open_store(sqlite_url(storage)) as store:
        await store.scan_jobs(since_ms or 0, grouped_stats.add)
    return grouped_stats


def _local_day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().date().isoformat()
