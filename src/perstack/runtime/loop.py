"""The loop of a run: decide on the next event, apply it, record it, until the run stops."""

import anyio

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.runtime.run import Run
from perstack.runtime.states import DECIDE


async def drive(run: Run) -> Checkpoint:
    """Drive the run until it stops.

    When cancelled, it calls no further model or tool, records finished results and the stop itself,
    and re-raises the cancellation. The run can be resumed from there.

    Raises:
        LeaseLostError: Another process drives the job.
        StoreError: The store cannot be written.
    """
    try:
        while not run.checkpoint.is_final:
            decide = DECIDE[run.checkpoint.state]
            event = await decide(run, run.checkpoint)  # effects happen here, and only here
            run.advance(event)
        await run.event_writer.flush()
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await record_cancellation(run)
        raise
    return run.checkpoint


async def record_cancellation(run: Run) -> None:
    """Record results that arrived before the cancellation, then the stop.

    A run without events is not recorded: there is nothing to resume.
    """
    if run.checkpoint.sequence == 0:
        return
    if run.checkpoint.is_final and run.checkpoint.status != "stoppedByDelegate":
        await run.event_writer.flush()
        return
    for result in run.calls.finished_results():
        run.advance(run.tool_result_event(result))
    usage = run.take_reported_usage()
    shortage = run.budget.time_shortage()
    run.advance(
        ev.StopRunByCancellation(stamp=run.stamp(), reason=run.job.stop_reason(), usage=usage)
        if shortage is None
        else run.stop_by(shortage, usage)
    )
    await run.event_writer.flush()
