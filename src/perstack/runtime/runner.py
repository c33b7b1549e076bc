"""A run from its start to its stop, delegates included."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from logging import getLogger

import anyio
from anyio.abc import ObjectSendStream, TaskGroup

from perstack import RUNTIME_VERSION
from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.history import usage_of_tree
from perstack.core.machine import blank_checkpoint, branch_checkpoint
from perstack.core.messages import (
    ExpertMessage,
    Message,
    TextPart,
    ToolCall,
    ToolResult,
    UserMessage,
    text_result,
    tool_result,
)
from perstack.core.transient_events import AnsweredCall
from perstack.definition.model import Expert
from perstack.errors import ConfigError, PerstackError, SkillError, UnknownExpertError
from perstack.runtime.budget import Shortage, limits_from
from perstack.runtime.context import JobContext
from perstack.runtime.loop import drive, record_cancellation
from perstack.runtime.prompt import instruction_message
from perstack.runtime.run import Run, RunStart
from perstack.runtime.states import init


@dataclass(frozen=True, slots=True)
class DelegateRun:
    """A child run to start, or to resume if the store has it."""

    run_id: str
    expert_key: str
    query: str
    delegated_by: ev.DelegatedBy


ExecuteDelegate = Callable[[DelegateRun], Awaitable[Checkpoint | None]]
Outcome = ToolResult | ev.RunEvent
"""The answer of a delegate; or why the run itself stops, and the delegate stays unanswered."""


async def await_delegates(run: Run, execute: ExecuteDelegate) -> None:
    """Run the unanswered delegate calls of a stopped run, then resume the run.

    A delegate that fails is an error result for the run; the others continue. Where a delegate was
    stopped because the job or a run above it may use no more, the run is stopped too, and both can
    be resumed.

    Raises:
        LeaseLostError: Another process drives the job.
        StoreError: The store cannot be written.
    """
    try:
        calls = {call.id: call for call in run.checkpoint.pending("delegate")}
        stops: dict[str, ev.RunEvent] = {}
        send, receive = anyio.create_memory_object_stream[tuple[str, Outcome]](len(calls))
        with send, receive:
            async with anyio.create_task_group() as tasks:
                for delegation in run.checkpoint.delegate_to:
                    call = calls.get(delegation.tool_call_id)
                    if call is not None:
                        tasks.start_soon(_run_delegate, run, call, delegation, execute, send)
                for _ in calls:
                    call_id, outcome = await receive.receive()
                    if isinstance(outcome, ToolResult):
                        run.advance(run.tool_result_event(outcome))
                        await run.event_writer.flush()
                    else:
                        stops[call_id] = outcome
        # The order of the calls decides, not that of their ends, so that a replay decides the same.
        stop_event = next((stops[call_id] for call_id in calls if call_id in stops), None)
        if stop_event is None:
            run.advance(ev.ResumeFromStop(stamp=run.stamp()))
        else:
            run.advance(stop_event.model_copy(update={"stamp": run.stamp()}))
            await run.event_writer.flush()
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await record_cancellation(run)
        raise


async def _run_delegate(
    run: Run,
    call: ToolCall,
    delegation: ev.Delegation,
    execute: ExecuteDelegate,
    send: ObjectSendStream[tuple[str, Outcome]],
) -> None:
    delegate = DelegateRun(
        run_id=delegation.run_id,
        expert_key=delegation.expert.key,
        query=delegation.query,
        delegated_by=ev.DelegatedBy(
            expert=run.checkpoint.expert,
            tool_call_id=call.id,
            tool_name=call.tool_name,
            checkpoint_id=run.checkpoint.id,
            run_id=run.checkpoint.run_id,
        ),
    )
    with run.span.tool_call(call, run.expert.key) as span:
        try:
            checkpoint = await execute(delegate)
        except (SkillError, ConfigError, UnknownExpertError) as error:
            outcome = _delegation_failure(call, delegation, str(error))
        else:
            outcome = _stop_event(run, checkpoint) or _delegate_result(call, delegation, checkpoint)
        if isinstance(outcome, ToolResult):
            span.finished(outcome)
    await send.send((call.id, outcome))


def _stop_event(run: Run, checkpoint: Checkpoint | None) -> ev.RunEvent | None:
    """The stop of a run whose delegate was stopped by more than a budget of its own."""
    if checkpoint is None:
        shortage = run.budget.step_shortage()
        if shortage is not None:
            return run.stop_by(shortage)
        return ev.StopRunByExceededMaxSteps(stamp=run.stamp())
    if checkpoint.status == "stoppedByExceededMaxSteps":
        return ev.StopRunByExceededMaxSteps(stamp=run.stamp())
    exhausted = checkpoint.exhausted
    if exhausted is None or exhausted.run_id == checkpoint.run_id:
        return None
    return run.stop_by(Shortage(exhausted.limit, exhausted.run_id, exhausted.message))


def _delegate_result(
    call: ToolCall, delegation: ev.Delegation, checkpoint: Checkpoint | None
) -> ToolResult:
    if checkpoint is None:
        raise ValueError("a delegate without a run has no result")
    if checkpoint.exhausted is not None:
        return _delegation_failure(call, delegation, _partial_result(checkpoint))
    if checkpoint.status == "completed":
        return tool_result(call, (TextPart(text=checkpoint.text), *checkpoint.media))
    if checkpoint.error is not None:
        return _delegation_failure(call, delegation, checkpoint.error.message)
    return _delegation_failure(call, delegation, f"it stopped with status {checkpoint.status}")


def _partial_result(checkpoint: Checkpoint) -> str:
    """Why a delegate was stopped by its own budget, and what it has said so far."""
    reason = checkpoint.exhausted.message if checkpoint.exhausted else ""
    texts = [each.text for each in checkpoint.messages if isinstance(each, ExpertMessage)]
    said = next((text for text in reversed(texts) if text), "")
    return f"{reason} What it said last:\n{said}" if said else reason


def _delegation_failure(call: ToolCall, delegation: ev.Delegation, reason: str) -> ToolResult:
    return text_result(
        call, f"Delegation to {delegation.expert.key} failed: {reason}", is_error=True
    )


LOG = getLogger(__name__)


async def start_run(
    job: JobContext,
    expert: Expert,
    run_start: RunStart,
    base: Checkpoint | None,
    *,
    run_id: str,
    first_step: int,
) -> Checkpoint:
    """Start a new run, from nothing or on top of `base`, and drive it until it stops.

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
    expert_ref = ev.ExpertRef(key=expert.key, name=expert.name, version=expert.version)
    checkpoint = (
        blank_checkpoint(stamp, expert_ref) if base is None else branch_checkpoint(base, stamp)
    )
    trace = base.trace_parent if base else None
    return await _activate(job, expert, run_start, checkpoint, resumed_from=trace)


async def resume_run(
    job: JobContext, expert: Expert, checkpoint: Checkpoint, answer: ToolResult | None = None
) -> Checkpoint:
    """Resume a run from its newest checkpoint, and drive it until it stops.

    `answer` is the user's answer to a question that the run waits for.

    Raises:
        ConfigError: No model can be determined for the expert.
        LeaseLostError: Another process drives the job.
        StoreError: The store cannot be written.
    """
    return await _resume(job, expert, checkpoint, RunStart(answer=answer))


async def _resume(
    job: JobContext, expert: Expert, checkpoint: Checkpoint, run_start: RunStart
) -> Checkpoint:
    trace = checkpoint.trace_parent
    return await _activate(job, expert, run_start, checkpoint, resumed_from=trace)


async def _activate(
    job: JobContext,
    expert: Expert,
    run_start: RunStart,
    checkpoint: Checkpoint,
    *,
    resumed_from: str | None,
) -> Checkpoint:
    outcome: Checkpoint | PerstackError | None = None
    with job.telemetry.run(checkpoint, expert, resumed_from) as span:
        async with anyio.create_task_group() as tasks:
            try:
                run = Run(
                    job=job,
                    expert=expert,
                    run_start=run_start,
                    checkpoint=checkpoint,
                    span=span,
                    tasks=tasks,
                )
                run.publisher.initialized(_runtime_details(job, run))
                outcome = await _drive_in_time(run, tasks)
            except PerstackError as error:
                outcome = error  # raised from here, the task group would wrap it
    if isinstance(outcome, Checkpoint):
        return outcome
    raise outcome if outcome is not None else RuntimeError("a run ended without a checkpoint")


async def _drive_in_time(run: Run, tasks: TaskGroup) -> Checkpoint:
    """Drive a run until it stops, or until the time of its budget is over."""
    limits = run.budget.limits
    if limits is None or limits.seconds is None:
        return await _drive_to_stop(run)
    work, timer = anyio.CancelScope(), anyio.CancelScope()

    async def stop_in_time() -> None:
        with timer:
            await run.budget.expire()
            work.cancel()

    tasks.start_soon(stop_in_time)
    try:
        with work:
            await _drive_to_stop(run)
    finally:
        timer.cancel()
    if work.cancelled_caught:
        tasks.cancel_scope.cancel()  # ends the calls that are under way
    return run.checkpoint


async def _drive_to_stop(run: Run) -> Checkpoint:
    answer = run.run_start.answer
    if answer is not None:
        if run.checkpoint.state is State.INIT:  # a branch begins with its own first event
            run.advance(await init(run, run.checkpoint))
        run.advance(run.tool_result_event(answer))
    if _needs_resume(run.checkpoint):
        run.advance(
            ev.ResumeFromStop(
                stamp=run.stamp(),
                step_limit=run.job.steps.limit,
                limits=run.limits_to_record(),
                trace_parent=run.span.trace_parent,
            )
        )
    try:
        await drive(run)
        while run.checkpoint.status == "stoppedByDelegate":
            await await_delegates(run, partial(execute_delegate, run))
            await drive(run)
    except PerstackError:
        raise
    except Exception as error:  # without an event, the job would look like running for ever
        if run.checkpoint.sequence == 0:
            raise
        LOG.exception("Run %s of %s failed", run.checkpoint.run_id, run.expert.key)
        name = type(error).__name__
        failure = ev.RunError(name=ev.INTERNAL_ERROR, message=f"Internal error: {name}")
        run.advance(ev.StopRunByError(stamp=run.stamp(), error=failure))
        await run.event_writer.flush()
    finally:
        run.calls.close()
    return run.checkpoint


def _needs_resume(checkpoint: Checkpoint) -> bool:
    return checkpoint.is_final and checkpoint.status not in ("completed", "stoppedByDelegate")


async def execute_delegate(parent: Run, delegate: DelegateRun) -> Checkpoint | None:
    """Drive a delegated run until it stops, whether it is new, unfinished or done.

    Returns `None` if there is no step left for it.

    Raises:
        UnknownExpertError: The delegate is not defined.
        ConfigError: No model can be determined for it.
    """
    job, budget, depth = parent.job, parent.budget, parent.depth + 1
    expert = job.definitions.experts.get(delegate.expert_key)
    if expert is None:
        raise UnknownExpertError(f"Expert {delegate.expert_key!r} is not defined.")
    checkpoint = job.known_checkpoints.get(delegate.run_id)
    if checkpoint is not None:
        if checkpoint.status == "completed":
            return checkpoint
        used = usage_of_tree(job.known_checkpoints, checkpoint.run_id)
        account = budget.open_account(checkpoint.run_id, checkpoint.limits, used=used)
        return await _resume(job, expert, checkpoint, RunStart(budget=account, depth=depth))
    first_step = None if budget.step_shortage() else job.steps.take()
    if first_step is None:
        return None
    limits = limits_from(expert.budget) if expert.budget else None
    account = budget.open_account(delegate.run_id, limits)
    messages = (
        instruction_message(expert, job.workspace, job.clock.now_ms()),
        UserMessage(contents=(TextPart(text=delegate.query),)),
    )
    run_start = RunStart(
        messages=messages, delegated_by=delegate.delegated_by, budget=account, depth=depth
    )
    return await start_run(
        job, expert, run_start, None, run_id=delegate.run_id, first_step=first_step
    )


def _runtime_details(job: JobContext, run: Run) -> dict[str, object]:
    return {
        "runtime_version": RUNTIME_VERSION,
        "expert_name": run.expert.name,
        "experts": tuple(job.definitions.experts),
        "model": run.choice.model,
        "max_steps": job.steps.limit,
        "max_retries": job.max_retries,
        "timeout": int(run.choice.timeout_seconds * 1000),
        "query": _query(run.run_start.messages),
        "interactive_tool_call": _answered_call(run.run_start.answer),
    }


def _query(messages: tuple[Message, ...]) -> str | None:
    texts = [
        part.text
        for message in messages
        if isinstance(message, UserMessage)
        for part in message.contents
        if isinstance(part, TextPart)
    ]
    return "".join(texts) if texts else None


def _answered_call(answer: ToolResult | None) -> AnsweredCall | None:
    if answer is None:
        return None
    return AnsweredCall(tool_name=answer.tool_name, tool_call_id=answer.id, text=answer.text)
