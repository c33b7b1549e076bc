"""`perstack run`: one task for one expert, its events on stdout, its outcome in the exit code."""

import logging
import os
import signal
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio
from anyio.abc import TaskStatus

from perstack.cli.event_loop import run_async
from perstack.cli.event_stream import EventStreamWriter, summary_line
from perstack.cli.job_log import require_job
from perstack.cli.run_options import (
    RunOptions,
    add_run_arguments,
    check_combination,
    job_request_from,
    run_options_from,
)
from perstack.cli.terminal import EXIT_CANCELLED, Terminal, exit_code_for_status
from perstack.engine import Engine, open_engine
from perstack.errors import NotFoundError
from perstack.jobs import JobHandle
from perstack.runtime.start_plan import JobRequest

ImmediateExit = Callable[[int], object]

POLL_SECONDS = 0.1
CLOSE_SECONDS = 0.4
"""For the servers of a cancelled job to end by themselves."""


def add_arguments(parser: ArgumentParser) -> None:
    add_run_arguments(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    check_combination(options)
    run_options = run_options_from(options)
    request = job_request_from(options, terminal)
    if options.is_for_newest or options.continue_job is not None:
        require_job(options, options.continue_job)
    if options.verbose:
        logging.basicConfig(
            level=logging.INFO, stream=terminal.stderr, format="%(name)s: %(message)s"
        )
    return run_async(
        partial(run_job, run_options, request, terminal, is_for_newest=options.is_for_newest)
    )


async def run_job(
    run_options: RunOptions, request: JobRequest, terminal: Terminal, *, is_for_newest: bool = False
) -> int:
    """Run or continue a job until it stops, and return the exit code.

    With `is_for_newest`, the request is for the newest job of the workspace.

    Raises:
        PerstackError: It could not be begun, or the store failed.
    """
    async with open_engine(run_options.settings) as engine:
        for warning in (*engine.loaded.warnings, *engine.loaded.fault_reports):
            terminal.info(f"perstack: {warning}", "yellow")
        if is_for_newest:
            request = replace(request, job_id=await _newest_job_id(engine))
        with EventStreamWriter(
            terminal, run_options.event_types, is_full=run_options.is_wire_full
        ) as event_writer:
            job = await engine.start(request, event_writer.on_event)
            async with anyio.create_task_group() as tasks:
                await tasks.start(stop_on_signals, job, terminal)
                tasks.start_soon(
                    event_writer.write_until_closed,
                    lambda: job.cancel("nobody reads the events any more"),
                )
                await _wait_for_end(job)
                event_writer.close()
                await event_writer.finished.wait()
                tasks.cancel_scope.cancel()
        if not job.stopped.is_set():
            # The guard of their process group ends the servers that go on.
            os._exit(_report_end(job, run_options, terminal))
    return _report_end(job, run_options, terminal)


async def _wait_for_end(job: JobHandle) -> None:
    """Wait until the job has stopped, or only servers are left that do not end on request."""
    while not job.stopped.is_set():
        is_closing = job.scope.cancel_called and job.has_end
        with anyio.move_on_after(CLOSE_SECONDS if is_closing else POLL_SECONDS):
            await job.stopped.wait()
        if is_closing:
            return


def _report_end(job: JobHandle, run_options: RunOptions, terminal: Terminal) -> int:
    view = job.final_view()
    terminal.info(f"perstack: {summary_line(view, run_options.repeated_options)}")
    failure = view.checkpoint.error
    return exit_code_for_status(view.job.status, failure.name if failure else None)


async def _newest_job_id(engine: Engine) -> str:
    newest = await engine.jobs(limit=1)
    if not newest:
        raise NotFoundError(
            f"No checkpoint found: the workspace {engine.workspace} has no job.",
            hint="Start one without --continue, or give the --workspace of the job.",
        )
    return newest[0].id


async def stop_on_signals(
    job: JobHandle,
    terminal: Terminal,
    exit_at_once: ImmediateExit = os._exit,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel the job on the first SIGINT or SIGTERM, leave at once on the second."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if job.scope.cancel_called:
                exit_at_once(EXIT_CANCELLED)
            name = signal.Signals(number).name
            terminal.info(f"perstack: {name}: stopping; once more to leave at once", "yellow")
            job.cancel(f"stopped by {name}")
