"""Waiting for delegates: their runs go on side by side, each answer is recorded as it arrives."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.abc import ObjectSendStream

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.errors import ConfigError, SkillError, UnknownExpertError
from perstack.runtime.loop import stop_cancelled
from perstack.runtime.run import Run


@dataclass(frozen=True, slots=True)
class Child:
    """A child run that is to be started, or taken up again if the store knows it."""

    run_id: str
    expert_key: str
    query: str
    delegated_by: ev.DelegatedBy


ExecuteChild = Callable[[Child], Awaitable[Checkpoint | None]]


async def await_delegates(run: Run, execute: ExecuteChild) -> None:
    """Carry the unanswered delegate calls of a stopped run to their end, then resume the run.

    A delegate that fails is an error result for the run and leaves the others alone.

    Raises:
        LeaseLostError: Another process drives the job.
        StoreError: The store cannot be written.
    """
    try:
        calls = {call.id: call for call in run.checkpoint.pending("delegate")}
        send, receive = anyio.create_memory_object_stream[ToolResult](len(calls))
        with send, receive:
            async with anyio.create_task_group() as tasks:
                for delegation in run.checkpoint.delegate_to:
                    call = calls.get(delegation.tool_call_id)
                    if call is not None:
                        tasks.start_soon(_answer, run, call, delegation, execute, send)
                for _ in calls:
                    result = await receive.receive()
                    run.advance(ev.RecordToolResult(stamp=run.stamp(), tool_result=result))
                    await run.journal.settle()
        run.advance(ev.ResumeFromStop(stamp=run.stamp()))
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await stop_cancelled(run)
        raise


async def _answer(
    run: Run,
    call: ToolCall,
    delegation: ev.Delegation,
    execute: ExecuteChild,
    send: ObjectSendStream[ToolResult],
) -> None:
    child = Child(
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
            result = _result(call, delegation, await execute(child))
        except (SkillError, ConfigError, UnknownExpertError) as error:
            result = _failure(call, delegation, str(error))
        span.finished(result)
    await send.send(result)


def _result(call: ToolCall, delegation: ev.Delegation, checkpoint: Checkpoint | None) -> ToolResult:
    if checkpoint is None or checkpoint.status == "stoppedByExceededMaxSteps":
        return _failure(call, delegation, "the job has used all its steps")
    if checkpoint.status == "completed":
        return text_result(call, checkpoint.text)
    if checkpoint.error is not None:
        return _failure(call, delegation, checkpoint.error.message)
    return _failure(call, delegation, f"it stopped with status {checkpoint.status}")


def _failure(call: ToolCall, delegation: ev.Delegation, reason: str) -> ToolResult:
    return text_result(
        call, f"Delegation to {delegation.expert.key} failed: {reason}", is_error=True
    )
