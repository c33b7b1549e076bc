"""`perstack stats`: what the jobs of a workspace add up to."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import anyio

from perstack.analysis.statistics import GroupedStats
from perstack.cli.args import add_json_argument, add_store_arguments, positive_int
from perstack.cli.formatting import local_time
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
    add_json_argument(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    storage = find_store(options)
    days: int | None = options.since
    since_ms = None if days is None else SystemClock().now_ms() - days * DAY_MS
    grouped_stats = anyio.run(_read_stats, storage, since_ms)
    report = StatsReport(
        storage=storage, since_ms=since_ms, grouped_stats=grouped_stats, by=options.by
    )
    print_stats(report, terminal, is_json=options.json)
    return EXIT_SUCCESS


async def _read_stats(storage: Path, since_ms: int | None) -> GroupedStats:
    grouped_stats = GroupedStats(lambda at_ms: local_time(at_ms).date().isoformat())
    async with open_store(sqlite_url(storage)) as store:
        await store.scan_jobs(since_ms or 0, grouped_stats.add)
    return grouped_stats
