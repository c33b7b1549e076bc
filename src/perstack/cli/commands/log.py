"""`perstack log`: what the jobs of a workspace did, from their stored events."""

from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

import anyio

from perstack.cli.args import add_json_argument, add_store_arguments, non_negative_int
from perstack.cli.commands.export import export_files
from perstack.cli.event_filter import (
    EventFilter,
    event_filter_from,
    parse_filter_expression,
    parse_step_filter,
)
from perstack.cli.job_log import (
    NO_LIMIT,
    JobLog,
    JobSelector,
    NoJobError,
    check_selector,
    find_job_log,
    find_store,
    follow_job,
    read_job_log,
)
from perstack.cli.render.log import LogView
from perstack.cli.terminal import EXIT_SUCCESS, Terminal
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import RecordedEvent
from perstack.core.wire import RUN_TYPES
from perstack.errors import ConfigError
from perstack.runtime.ports import SystemClock
from perstack.stores import open_store, sqlite_url

DEFAULT_TAKE = 100
EVENT_OPTIONS = ("step", "type", "filter", "errors", "tools", "delegations", "context")
SINGLE_JOB_OPTIONS = ("job", "run", "checkpoint", "messages", "summary", "follow")
INCOMPATIBLE_OPTIONS = {
    "jobs": SINGLE_JOB_OPTIONS + EVENT_OPTIONS,
    "follow": ("checkpoint", "messages", "summary", "pretty"),
    "export": SINGLE_JOB_OPTIONS[1:] + EVENT_OPTIONS,
}


def add_arguments(parser: ArgumentParser) -> None:
    add_store_arguments(parser)
    _add_job_arguments(parser)
    _add_filter_arguments(parser)
    _add_output_arguments(parser)


def _add_job_arguments(parser: ArgumentParser) -> None:
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


def _add_filter_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--step",
        type=parse_step_filter,
        metavar="FILTER",
        help="only these steps: 5, >5, <=5, 1-10",
    )
    parser.add_argument("--type", choices=RUN_TYPES, metavar="TYPE", help="only events of a type")
    parser.add_argument(
        "--filter",
        type=parse_filter_expression,
        action="append",
        metavar="EXPR",
        help="only events for which it holds, such as '.usage.outputTokens > 500'; repeatable",
    )
    parser.add_argument("--errors", action="store_true", help="only failures and retries")
    parser.add_argument("--tools", action="store_true", help="only tool calls and their results")
    parser.add_argument("--delegations", action="store_true", help="only delegations")
    parser.add_argument(
        "--take", type=non_negative_int, metavar="N", help="at most so many (100); 0 is all"
    )
    for flag, help_text in (
        ("--offset", "leave out the first so many"),
        ("--context", "also so many events on either side"),
    ):
        parser.add_argument(flag, type=non_negative_int, default=0, metavar="N", help=help_text)


def _add_output_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="write a folder of JSON files, for all jobs with --jobs, and show nothing",
    )
    add_json_argument(parser)
    parser.add_argument("--pretty", action="store_true", help="the JSON document, indented")
    parser.add_argument("--verbose", action="store_true", help="nothing shortened")
    parser.add_argument(
        "--summary", action="store_true", help="no events, only what they add up to"
    )


def execute(options: Namespace, terminal: Terminal) -> int:
    _check_combination(options)
    view = LogView(options, terminal)
    selector = JobSelector(job_id=options.job, run_id=options.run, checkpoint_id=options.checkpoint)
    try:
        storage = find_store(options, selector)
    except NoJobError as error:
        if selector != JobSelector():
            raise
        view.show_nothing(error)
        return EXIT_SUCCESS
    _show(storage, selector, view, options, terminal)
    return EXIT_SUCCESS


def _show(
    storage: Path, selector: JobSelector, view: LogView, options: Namespace, terminal: Terminal
) -> None:
    take: int = DEFAULT_TAKE if options.take is None else options.take
    if options.export is not None:
        export = partial(
            export_files, storage, options.export, options.job, is_for_all_jobs=options.jobs
        )
        terminal.write_lines(map(str, anyio.run(export)))
    elif options.follow:
        try:
            event_filter = event_filter_from(options, selector, options.take or 0)
            anyio.run(_follow, storage, selector, event_filter, view, terminal)
        except KeyboardInterrupt:
            terminal.info("")  # the usual way to leave; the terminal shows ^C in this line
    elif options.jobs:
        anyio.run(_show_jobs, storage, take or NO_LIMIT, options.offset, view)
    else:
        # Shown outside of the event loop, where Ctrl-C ends the output of a long log at once.
        job_log = anyio.run(_read_job_log, storage, selector)
        event_filter = event_filter_from(options, selector, take)
        view.show_job(job_log, event_filter, _requested_checkpoint(job_log, options))


def _check_combination(options: Namespace) -> None:
    for name, others in INCOMPATIBLE_OPTIONS.items():
        for other in others:
            if getattr(options, name) and getattr(options, other) not in (None, False, 0):
                raise ConfigError(
                    f"--{name} and --{other} cannot be used together.",
                    hint=f"Leave out --{name} or --{other}.",
                )


async def _show_jobs(storage: Path, limit: int, offset: int, view: LogView) -> None:
    async with open_store(sqlite_url(storage)) as store:
        view.show_jobs(await store.jobs(limit=limit, offset=offset))


async def _read_job_log(storage: Path, selector: JobSelector) -> JobLog:
    async with open_store(sqlite_url(storage)) as store:
        return await read_job_log(store, storage, selector)


def _requested_checkpoint(job_log: JobLog, options: Namespace) -> Checkpoint | None:
    """The one that is asked for; where only messages are, the newest of the run."""
    if options.checkpoint is not None:
        checkpoints = {entry.checkpoint.id: entry.checkpoint for entry in job_log.entries}
        return checkpoints[options.checkpoint]
    if not options.messages:
        return None
    newest = {run.run_id: run for run in job_log.view.runs}
    return newest[options.run] if options.run is not None else job_log.view.checkpoint


async def _follow(
    storage: Path,
    selector: JobSelector,
    event_filter: EventFilter,
    view: LogView,
    terminal: Terminal,
) -> None:
    async with open_store(sqlite_url(storage)) as store:
        reader = await find_job_log(store, storage, selector)
        has_begun = False

        def show(entries: tuple[RecordedEvent, ...]) -> bool:
            nonlocal has_begun
            if not has_begun:
                check_selector(reader.snapshot(), selector)
                view.show_header(reader.snapshot())
                has_begun = True
            for entry in entries:
                if not event_filter.is_exhausted:
                    view.show_events(event_filter.select(entry))
            return terminal.has_reader and not event_filter.is_exhausted

        await follow_job(reader, SystemClock(), show)
        view.show_footer(reader.snapshot(), event_filter)
