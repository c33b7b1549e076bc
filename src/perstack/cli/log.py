"""`perstack log`: what the jobs of a workspace did, from their stored events."""

import json
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import anyio

from perstack.cli.arguments import add_workspace_argument, natural
from perstack.cli.exits import COMPLETED
from perstack.cli.history import Story, find_store, open_history, read_story
from perstack.cli.output import Terminal
from perstack.cli.selection import select, step_filter
from perstack.cli.story import document, event_lines, figures, footer, header, job_line
from perstack.core.checkpoint import Job
from perstack.core.wire import RUN_TYPES

DEFAULT_TAKE = 100


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help="definition file whose folder is looked in",
    )
    parser.add_argument("--jobs", action="store_true", help="list the jobs, newest first")
    parser.add_argument("--job", metavar="ID", help="the job; by default the latest")
    parser.add_argument("--run", metavar="ID", help="only events of this run")
    parser.add_argument(
        "--step", type=step_filter, metavar="FILTER", help="only these steps: 5, >5, <=5, 1-10"
    )
    parser.add_argument("--type", choices=RUN_TYPES, metavar="TYPE", help="only events of a type")
    parser.add_argument("--errors", action="store_true", help="only failures and retries")
    parser.add_argument("--tools", action="store_true", help="only tool calls and their results")
    parser.add_argument("--delegations", action="store_true", help="only delegations")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument(
        "--summary", action="store_true", help="no events, only what they add up to"
    )
    parser.add_argument(
        "--take", type=natural, default=DEFAULT_TAKE, metavar="N", help="at most so many; 0 is all"
    )
    parser.add_argument(
        "--offset", type=natural, default=0, metavar="N", help="leave out the first so many"
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    """Show what was asked for.

    Raises:
        NotFoundError: There is no such job, or none at all.
        StoreError: The store cannot be read.
    """
    storage = find_store(options.workspace, options.config, Path.cwd())
    found = anyio.run(partial(_read, storage, options))
    if isinstance(found, Story):
        show_story(found, options, terminal)
    else:
        show_jobs(found, options, terminal)
    return COMPLETED


async def _read(storage: Path, options: Namespace) -> Story | tuple[Job, ...]:
    async with open_history(storage) as store:
        if options.jobs:
            return await store.jobs(limit=options.take or 2**31, offset=options.offset)
        return await read_story(store, storage, options.job)


def show_jobs(jobs: tuple[Job, ...], options: Namespace, terminal: Terminal) -> None:
    """List jobs."""
    if options.json:
        documents = [job.model_dump(mode="json", by_alias=True, exclude_none=True) for job in jobs]
        terminal.line(json.dumps(documents, ensure_ascii=False, indent=2))
        return
    for job in jobs:
        terminal.line(job_line(job))


def show_story(story: Story, options: Namespace, terminal: Terminal) -> None:
    """Show a job."""
    selection = select(story.entries, options)
    if options.json:
        terminal.line(json.dumps(document(story, selection), ensure_ascii=False, indent=2))
        return
    for line in header(story):
        terminal.line(line)
    terminal.line()
    if options.summary:
        for line in figures(story.entries):
            terminal.line(line)
        return
    for entry in selection.shown:
        first, *rest = event_lines(entry)
        terminal.line(first, *(("red",) if "Error" in entry.event.type else ()))
        for line in rest:
            terminal.line(line, "dim")
    terminal.line(footer(selection))
