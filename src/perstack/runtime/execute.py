"""A run from its opening to its stop, delegates included."""

from logging import getLogger

import anyio

from perstack import __version__
from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.machine import blank, branch
from perstack.core.messages import TextPart, ToolResult, UserMessage
from perstack.definition.model import Expert
from perstack.errors import PerstackError, UnknownExpertError
from perstack.runtime.delegation import Child, await_delegates
from perstack.runtime.job import JobContext
from perstack.runtime.loop import drive
from perstack.runtime.prompt import instruction_message
from perstack.runtime.run import Opening, Run
from perstack.runtime.states import init

LOG = getLogger(__name__)


async def begin(
    job: JobContext,
    expert: Expert,
    opening: Opening,
    base: Checkpoint | None,
    *,
    run_id: str,
    first_step: int,
) -> Checkpoint:
    """Start a new run, from nothing or on top of `base`, and work on it until it stops.

    Raises:
        ConfigError: No model can be determined for the expert.
        LeaseLostError: Another process drives the job.
        StoreError: The store cannot be written.
    """
    stamp = ev.Stamp(
        job_id=job.job_id,
        run_id=run_id,
        expert_key=expert.key,
        step_number=first_step,
        sequence=1,
        timestamp=job.clock.now_ms(),
    )
    ref = ev.ExpertRef(key=expert.key, name=expert.name, version=expert.version)
    checkpoint = blank(stamp, ref) if base is None else branch(base, stamp)
    trace = base.trace_parent if base else None
    return await _activate(job, expert, opening, checkpoint, resumed_from=trace)


async def resume(
    job: JobContext, expert: Expert, checkpoint: Checkpoint, answer: ToolResult | None = None
) -> Checkpoint:
    """Go on with a run where its newest checkpoint stands, and work on it until it stops.

    `answer` is the user's answer to a question that the run waits for.

    Raises:
        ConfigError: No model can be determined for the expert.
        LeaseLostError: Another process drives the job.
        StoreError: The store cannot be written.
    """
    trace = checkpoint.trace_parent
    opening = Opening(answer=answer)
    return await _activate(job, expert, opening, checkpoint, resumed_from=trace)


async def _activate(
    job: JobContext,
    expert: Expert,
    opening: Opening,
    checkpoint: Checkpoint,
    *,
    resumed_from: str | None,
) -> Checkpoint:
    end: Checkpoint | PerstackError | None = None
    with job.telemetry.run(checkpoint, expert, resumed_from) as span:
        async with anyio.create_task_group() as tasks:
            try:
                run = Run(
                    job=job,
                    expert=expert,
                    opening=opening,
                    checkpoint=checkpoint,
                    span=span,
                    tasks=tasks,
                )
                run.broadcast.initialized(_details(job, run))
                end = await _work(run)
            except PerstackError as error:
                end = error  # carried out of the task group by hand, which would wrap it in a group
    if isinstance(end, Checkpoint):
        return end
    raise end if end is not None else RuntimeError("a run ended without a checkpoint")


async def _work(run: Run) -> Checkpoint:
    answer = run.opening.answer
    if answer is not None:
        if run.checkpoint.state is State.INIT:  # nothing comes before the beginning of a branch
            run.advance(await init(run, run.checkpoint))
        run.advance(ev.RecordToolResult(stamp=run.stamp(), tool_result=answer))
    if _needs_resume(run.checkpoint):
        run.advance(
            ev.ResumeFromStop(
                stamp=run.stamp(),
                step_limit=run.job.steps.limit,
                trace_parent=run.span.trace_parent,
            )
        )
    try:
        await drive(run)
        while run.checkpoint.status == "stoppedByDelegate":
            await await_delegates(run, lambda child: execute_child(run.job, child))
            await drive(run)
    except PerstackError:
        raise
    except Exception as error:  # without an event, the job would seem to run for ever
        if run.checkpoint.sequence == 0:
            raise
        LOG.exception("Run %s of %s failed", run.checkpoint.run_id, run.expert.key)
        name = type(error).__name__
        failure = ev.RunError(name=ev.BUG, message=f"Internal error: {name}")
        run.advance(ev.StopRunByError(stamp=run.stamp(), error=failure))
        await run.journal.settle()
    finally:
        run.calls.close()
    return run.checkpoint


def _needs_resume(checkpoint: Checkpoint) -> bool:
    return checkpoint.is_final and checkpoint.status not in ("completed", "stoppedByDelegate")


async def execute_child(job: JobContext, child: Child) -> Checkpoint | None:
    """Carry a delegated run to its stop, whether it is new, half done or done.

    Returns `None` if the job has no step left for it.

    Raises:
        UnknownExpertError: The delegate is not defined.
        ConfigError: No model can be determined for it.
    """
    expert = job.definitions.experts.get(child.expert_key)
    if expert is None:
        raise UnknownExpertError(f"Expert {child.expert_key!r} is not defined.")
    known = job.known.get(child.run_id)
    if known is not None:
        return known if known.status == "completed" else await resume(job, expert, known)
    first_step = job.steps.take()
    if first_step is None:
        return None
    messages = (
        instruction_message(expert, job.place, job.clock.now_ms()),
        UserMessage(contents=(TextPart(text=child.query),)),
    )
    opening = Opening(messages=messages, delegated_by=child.delegated_by)
    return await begin(job, expert, opening, None, run_id=child.run_id, first_step=first_step)


def _details(job: JobContext, run: Run) -> dict[str, object]:
    return {
        "runtime_version": __version__,
        "expert_name": run.expert.name,
        "experts": tuple(job.definitions.experts),
        "model": run.choice.model,
        "max_steps": job.steps.limit,
        "max_retries": job.max_retries,
        "timeout": int(run.choice.timeout_seconds * 1000),
    }
