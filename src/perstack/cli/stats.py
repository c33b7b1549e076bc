"""`perstack stats`: what the jobs of a workspace add up to."""

from argparse import ArgumentParser, Namespace
from datetime import datetime
from functools import partial
from pathlib import Path

import anyio

from perstack.cli.arguments import add_workspace_argument, positive
from perstack.cli.exits import COMPLETED
from perstack.cli.history import find_store, open_history
from perstack.cli.output import Terminal
from perstack.cli.stats_view import Statistics, show
from perstack.core.figures import Survey
from perstack.runtime.clock import SystemClock

DAY_MS = 24 * 60 * 60 * 1000


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help="definition file whose folder is looked in",
    )
    parser.add_argument(
        "--since", type=positive, metavar="DAYS", help="only jobs that began in the last so many"
    )
    parser.add_argument(
        "--by", choices=("expert", "model", "day"), help="a line for each, instead of for each tool"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def execute(options: Namespace, terminal: Terminal) -> int:
    """Show what was asked for.

    Raises:
        NotFoundError: No job has run there.
        StoreError: The store cannot be read.
    """
    storage = find_store(options.workspace, options.config, Path.cwd())
    days: int | None = options.since
    since_ms = None if days is None else SystemClock().now_ms() - days * DAY_MS
    survey = anyio.run(partial(_read, storage, since_ms))
    statistics = Statistics(storage=storage, since_ms=since_ms, survey=survey, by=options.by)
    show(statistics, terminal, is_json=options.json)
    return COMPLETED


async def _read(storage: Path, since_ms: int | None) -> Survey:
    survey = Survey(_day)
    async with open_history(storage) as store:
        await store.survey(since_ms or 0, survey.add)
    return survey


def _day(at_ms: int) -> str:
    """The local day of a moment."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().date().isoformat()
