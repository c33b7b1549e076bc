"""How events change a checkpoint: the table of legal transitions, and `evolve`.

Everything here is pure. What happens in the world between two events is in `runtime.states`.
"""

from collections.abc import Iterable

from perstack.core import events as ev
from perstack.core.changes import changes_of, first_model
from perstack.core.checkpoint import Checkpoint, State

S = State

TRANSITIONS: dict[State, dict[str, State]] = {
    S.INIT: {"startRun": S.PREPARING_FOR_STEP, "resumeFromStop": S.RESUMING_FROM_STOP},
    S.RESUMING_FROM_STOP: {
        "recordToolResult": S.RESUMING_FROM_STOP,
        "resumeToolCalls": S.CALLING_MCP_TOOLS,
        "proceedToInteractiveTools": S.CALLING_INTERACTIVE_TOOLS,
        "startVerification": S.VERIFYING_COMPLETION,
        "resolveToolResults": S.RESOLVING_TOOL_RESULT,
        "finishAllToolCalls": S.FINISHING_STEP,
    },
    S.PREPARING_FOR_STEP: {
        "startGeneration": S.GENERATING_TOOL_CALL,
        "compactHistory": S.PREPARING_FOR_STEP,
        "retry": S.PREPARING_FOR_STEP,
    },
    S.GENERATING_TOOL_CALL: {
        "callTools": S.CALLING_MCP_TOOLS,
        "startVerification": S.VERIFYING_COMPLETION,
        "completeRun": S.STOPPED,
        "compactHistory": S.PREPARING_FOR_STEP,
        "retry": S.FINISHING_STEP,
    },
    S.CALLING_MCP_TOOLS: {
        "startToolCalls": S.CALLING_MCP_TOOLS,
        "recordToolResult": S.CALLING_MCP_TOOLS,
        "attemptCompletion": S.CALLING_MCP_TOOLS,
        "startVerification": S.VERIFYING_COMPLETION,
        "completeRun": S.STOPPED,
        "finishMcpTools": S.CALLING_DELEGATES,
        "resolveToolResults": S.RESOLVING_TOOL_RESULT,
    },
    S.VERIFYING_COMPLETION: {
        "recordVerification": S.VERIFYING_COMPLETION,
        "attemptCompletion": S.CALLING_MCP_TOOLS,
        "completeRun": S.STOPPED,
        "retry": S.FINISHING_STEP,
    },
    S.CALLING_DELEGATES: {
        "callDelegate": S.CALLING_DELEGATES,
        "skipDelegates": S.CALLING_INTERACTIVE_TOOLS,
        "stopRunByDelegate": S.STOPPED,
    },
    S.CALLING_INTERACTIVE_TOOLS: {
        "callInteractiveTool": S.CALLING_INTERACTIVE_TOOLS,
        "stopRunByInteractiveTool": S.STOPPED,
        "resolveToolResults": S.RESOLVING_TOOL_RESULT,
    },
    S.RESOLVING_TOOL_RESULT: {"finishToolCall": S.FINISHING_STEP},
    S.FINISHING_STEP: {
        "continueToNextStep": S.PREPARING_FOR_STEP,
        "stopRunByExceededMaxSteps": S.STOPPED,
        "stopRunByExceededBudget": S.STOPPED,
    },
    S.STOPPED: {"recordToolResult": S.STOPPED, "resumeFromStop": S.RESUMING_FROM_STOP},
}
"""Where each event leads from each state. An event that is not listed for a state is illegal in it.

Two details are in `next_state`: some stops may come in any state, and a retry
after a failure of the provider repeats the step rather than finish it.
"""

STOPS_FROM_ANYWHERE = frozenset(
    {
        "stopRunByError",
        "stopRunByCancellation",
        "stopRunByExceededBudget",
        "stopRunByExceededMaxSteps",
    }
)


class IllegalTransitionError(Exception):
    """An event that the state of the run does not allow: a bug, or a damaged store."""


def next_state(checkpoint: Checkpoint, event: ev.RunEvent) -> State:
    """The state that `event` leads to.

    Raises:
        IllegalTransitionError: The event does not belong to this run, is out of sequence, or is not
        legal in its state.
    """
    stamp = event.stamp
    if (stamp.run_id, stamp.sequence) != (checkpoint.run_id, checkpoint.sequence + 1):
        raise IllegalTransitionError(
            f"event {event.id} does not follow {checkpoint.run_id}-{checkpoint.sequence}"
        )
    if event.type in STOPS_FROM_ANYWHERE and checkpoint.status != "completed":
        return S.STOPPED
    target = TRANSITIONS[checkpoint.state].get(event.type)
    if target is None:
        raise IllegalTransitionError(f"{event.type} is not legal in state {checkpoint.state}")
    if isinstance(event, ev.Retry) and event.error is not None:
        return S.PREPARING_FOR_STEP
    return target


def evolve(checkpoint: Checkpoint, event: ev.RunEvent) -> Checkpoint:
    """The checkpoint after `event`. `checkpoint` itself stays as it is.

    Raises:
        IllegalTransitionError: The event does not belong to this run, is out of sequence, or is not
        legal in its state.
    """
    state = next_state(checkpoint, event)
    changes = changes_of(checkpoint, event)
    is_first = checkpoint.sequence == 0
    return checkpoint.model_copy(
        update={
            "id": event.id,
            "sequence": event.stamp.sequence,
            "started_at": event.stamp.timestamp if is_first else checkpoint.started_at,
            "updated_at": event.stamp.timestamp,
            "state": state,
            **changes,
        }
    )


def fold(start: Checkpoint, events: Iterable[ev.RunEvent]) -> Checkpoint:
    """The checkpoint after all `events` of a run, from `start` on."""
    for event in events:
        start = evolve(start, event)
    return start


def blank_checkpoint(stamp: ev.Stamp, expert: ev.ExpertRef) -> Checkpoint:
    """A run without a past, before its first event, whose stamp is `stamp`."""
    return Checkpoint(
        id=f"{stamp.run_id}-0",
        job_id=stamp.job_id,
        run_id=stamp.run_id,
        step_number=stamp.step_number,
        step_limit=stamp.step_number,
        expert=expert,
        provider="",
        model="",
        started_at=stamp.timestamp,
        updated_at=stamp.timestamp,
    )


def branch_checkpoint(base: Checkpoint, stamp: ev.Stamp) -> Checkpoint:
    """A run that carries on from `base`, before its first event, whose stamp is `stamp`."""
    return base.model_copy(
        update={
            "id": f"{stamp.run_id}-0",
            "parent_id": base.id,
            "job_id": stamp.job_id,
            "run_id": stamp.run_id,
            "sequence": 0,
            "state": State.INIT,
            "status": "init",
            "step_number": stamp.step_number,
            **first_model(base),
            "usage": type(base.usage)(),
            "own_steps": 0,
            "started_at": stamp.timestamp,
            "updated_at": stamp.timestamp,
        }
    )


def initial_checkpoint(first: ev.RunEvent, base: Checkpoint | None) -> Checkpoint:
    """The checkpoint onto which the events of a run are folded.

    `first` is the first of them; `base` is the checkpoint that the run continues, if any.

    Raises:
        IllegalTransitionError: The event cannot be the first of a run.
    """
    if base is not None:
        return branch_checkpoint(base, first.stamp)
    if not isinstance(first, ev.StartRun):
        raise IllegalTransitionError(f"a run cannot begin with {first.type}")
    return blank_checkpoint(first.stamp, first.expert)
