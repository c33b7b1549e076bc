"""`perstack log`: what the jobs of a workspace did, from their stored events."""

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import anyio

from perstack.cli.arguments import add_workspace_argument, natural
from perstack.cli.exits import COMPLETED
from perstack.cli.export import export_files
from perstack.cli.expression import filter_expression
from perstack.cli.follow import follow
from perstack.cli.history import (
    Entry,
    Story,
    Wanted,
    check_part,
    find_job,
    find_store,
    open_history,
    read_story,
)
from perstack.cli.log_view import LogView
from perstack.cli.output import Terminal
from perstack.cli.selection import selection, step_filter
from perstack.core.checkpoint import Checkpoint
from perstack.core.wire import RUN_TYPES
from perstack.errors import ConfigError
from perstack.runtime.clock import SystemClock

DEFAULT_TAKE = 100
OF_EVENTS = ("step", "type", "filter", "errors", "tools", "delegations", "context")
OF_ONE_JOB = ("job", "run", "checkpoint", "messages", "summary", "follow")
AT_THE_END = ("checkpoint", "messages", "summary", "pretty")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_workspace_argument(parser, "the current folder, else that of the definition file")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="PATH",
        help="definition file whose folder is looked in",
    )
    _add_what(parser)
    _add_filters(parser)
    _add_form(parser)


def _add_what(parser: ArgumentParser) -> None:
    parser.add_argument("--jobs", action="store_true", help="list the jobs, newest first")
    parser.add_argument("--job", metavar="ID", help="the job; by default the latest")
    parser.add_argument("--run", metavar="ID", help="only events of this run")
    parser.add_argument(
        "--checkpoint", metavar="ID", help="a run as it stood then, and what led to it"
    )
    parser.add_argument(
        "--messages", action="store_true", help="all that was said in the run until the checkpoint"
    )
    parser.add_argument(
        "--follow", action="store_true", help="show events as they come, until the job stops"
    )


def _add_filters(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--step", type=step_filter, metavar="FILTER", help="only these steps: 5, >5, <=5, 1-10"
    )
    parser.add_argument("--type", choices=RUN_TYPES, metavar="TYPE", help="only events of a type")
    parser.add_argument(
        "--filter",
        type=filter_expression,
        action="append",
        metavar="EXPR",
        help="only events for which it holds, such as '.usage.outputTokens > 500'; repeatable",
    )
    parser.add_argument("--errors", action="store_true", help="only failures and retries")
    parser.add_argument("--tools", action="store_true", help="only tool calls and their results")
    parser.add_argument("--delegations", action="store_true", help="only delegations")
    parser.add_argument("--take", type=natural, metavar="N", help="at most so many (100); 0 is all")
    parser.add_argument(
        "--offset", type=natural, default=0, metavar="N", help="leave out the first so many"
    )
    parser.add_argument(
        "--context", type=natural, default=0, metavar="N", help="also so many events on either side"
    )


def _add_form(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="write a folder of JSON files, for all jobs with --jobs, and show nothing",
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--pretty", action="store_true", help="the JSON document, indented")
    parser.add_argument("--verbose", action="store_true", help="nothing shortened")
    parser.add_argument(
        "--summary", action="store_true", help="no events, only what they add up to"
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    """Show what was asked for.

    Raises:
        ConfigError: Options contradict each other.
        NotFoundError: There is no such job, run or checkpoint, or no job at all.
        StoreError: The store cannot be read.
    """
    _refuse_contradictions(options)
    storage = find_store(options.workspace, options.config, Path.cwd())
    view = LogView(options, terminal)
    if options.export is not None:
        _export(storage, options, terminal)
    elif options.follow:
        try:
            anyio.run(partial(_follow, storage, options, view, terminal))
        except KeyboardInterrupt:
            terminal.note("")  # the usual way to leave; the terminal shows ^C in this line
    elif options.jobs:
        anyio.run(partial(_show_jobs, storage, options, view))
    else:
        _show_story(anyio.run(partial(_read, storage, options)), options, view)
    return COMPLETED


def _refuse_contradictions(options: Namespace) -> None:
    refused = {
        "jobs": OF_ONE_JOB + OF_EVENTS,
        "follow": AT_THE_END,
        "export": OF_ONE_JOB[1:] + OF_EVENTS,
    }
    for name, others in refused.items():
        for other in others:
            if getattr(options, name) and getattr(options, other) not in (None, False, 0):
                raise ConfigError(
                    f"--{name} and --{other} cannot be used together.",
                    hint=f"Leave out --{name} or --{other}.",
                )


def _export(storage: Path, options: Namespace, terminal: Terminal) -> None:
    wanted = partial(export_files, storage, options.export, options.job, is_every=options.jobs)
    for folder in anyio.run(wanted):
        terminal.line(str(folder))


async def _show_jobs(storage: Path, options: Namespace, view: LogView) -> None:
    take = DEFAULT_TAKE if options.take is None else options.take
    async with open_history(storage) as store:
        view.jobs(await store.jobs(limit=take or 2**31, offset=options.offset))


async def _read(storage: Path, options: Namespace) -> Story:
    async with open_history(storage) as store:
        return await read_story(store, storage, _wanted(options))


def _show_story(story: Story, options: Namespace, view: LogView) -> None:
    picked = selection(options, DEFAULT_TAKE if options.take is None else options.take)
    if options.summary:
        view.summary(story, picked)
    else:
        view.story(story, picked, _checkpoint(story, options))


def _checkpoint(story: Story, options: Namespace) -> Checkpoint | None:
    """The one that is asked for; where only messages are, the newest of the run."""
    if options.checkpoint is not None:
        found = {entry.checkpoint.id: entry.checkpoint for entry in story.entries}
        return found[options.checkpoint]
    if not options.messages:
        return None
    newest = {run.run_id: run for run in story.view.runs}
    return newest[options.run] if options.run is not None else story.view.checkpoint


async def _follow(storage: Path, options: Namespace, view: LogView, terminal: Terminal) -> None:
    picked = selection(options, options.take or 0)
    wanted = _wanted(options)
    async with open_history(storage) as store:
        reader = await find_job(store, storage, wanted)
        has_begun = False

        def show(entries: tuple[Entry, ...]) -> bool:
            nonlocal has_begun
            if not has_begun:
                check_part(reader.story(), wanted)
                view.beginning(reader.story())
                has_begun = True
            for entry in entries:
                if not picked.is_full:
                    view.events(picked.pick(entry))
            return terminal.has_reader and not picked.is_full

        await follow(reader, SystemClock(), show)
        view.end(reader.story(), picked)


def _wanted(options: Namespace) -> Wanted:
    return Wanted(job_id=options.job, run_id=options.run, checkpoint_id=options.checkpoint)
