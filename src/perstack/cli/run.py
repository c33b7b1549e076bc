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

from perstack.cli.exits import CANCELLED, exit_code_for
from perstack.cli.order import Order, add_run_arguments, read_order
from perstack.cli.output import Terminal
from perstack.cli.stream import EventLines
from perstack.cli.summary import summary
from perstack.engine import Engine, open_engine
from perstack.errors import NotFoundError, PerstackError
from perstack.jobs import JobView, RunningJob
from perstack.runtime.continuation import JobRequest
from perstack.settings import Parts

ExitAtOnce = Callable[[int], object]


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of the command."""
    add_run_arguments(parser)


def execute(options: Namespace, terminal: Terminal) -> int:
    """Carry the order out.

    Raises:
        PerstackError: It could not be begun, or the store failed.
    """
    order = read_order(options, terminal)
    if order.is_verbose:
        logging.basicConfig(
            level=logging.INFO, stream=terminal.stderr, format="%(name)s: %(message)s"
        )
    return anyio.run(partial(perform, order, terminal))


async def perform(order: Order, terminal: Terminal, parts: Parts | None = None) -> int:
    """Do the job, or go on with it, until it stops.

    Returns:
        The exit code.

    Raises:
        PerstackError: It could not be begun, or the store failed.
    """
    end: JobView | PerstackError
    async with open_engine(order.settings, parts) as engine:
        for warning in engine.loaded.warnings:
            terminal.note(f"perstack: {warning}", "yellow")
        try:
            end = await _drive(engine, order, terminal)
        except PerstackError as error:
            end = error  # carried out of the engine's task group by hand, which would wrap it
    if isinstance(end, PerstackError):
        raise end
    terminal.note(f"perstack: {summary(end, order.repeated)}")
    failure = end.checkpoint.error
    return exit_code_for(end.job.status, failure.name if failure else None)


async def _drive(engine: Engine, order: Order, terminal: Terminal) -> JobView:
    request = await _request(engine, order)
    with EventLines(terminal, order.types) as lines:
        job = await engine.start(request, lines.heard)
        async with anyio.create_task_group() as tasks:
            await tasks.start(stop_on_signals, job, terminal)
            tasks.start_soon(lines.write, lambda: job.cancel("nobody reads the events any more"))
            await job.stopped.wait()
            lines.close()
            await lines.written.wait()
            tasks.cancel_scope.cancel()
    return job.view()


async def _request(engine: Engine, order: Order) -> JobRequest:
    if not order.is_for_newest:
        return order.request
    newest = await engine.jobs(limit=1)
    if not newest:
        raise NotFoundError(
            f"No checkpoint found: the workspace {engine.workspace} has no job.",
            hint="Start one without --continue, or give the --workspace of the job.",
        )
    return replace(order.request, job_id=newest[0].id)


async def stop_on_signals(
    job: RunningJob,
    terminal: Terminal,
    exit_at_once: ExitAtOnce = os._exit,
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Cancel the job on the first SIGINT or SIGTERM, leave at once on the second."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            if job.scope.cancel_called:
                exit_at_once(CANCELLED)
            name = signal.Signals(number).name
            terminal.note(f"perstack: {name}: stopping; once more to leave at once", "yellow")
            job.cancel(f"stopped by {name}")
