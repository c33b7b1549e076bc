"""The table of transitions and how events change a checkpoint."""

import pytest

from perstack.core import events as ev
from perstack.core.changes import close_open_calls
from perstack.core.checkpoint import Checkpoint, State
from perstack.core.history import checkpoint_at, newest_checkpoints
from perstack.core.machine import (
    STOPS_FROM_ANYWHERE,
    TRANSITIONS,
    IllegalTransitionError,
    blank_checkpoint,
    evolve,
)
from perstack.core.messages import (
    ExpertMessage,
    TextPart,
    ToolCall,
    ToolCallPart,
    ToolMessage,
    Usage,
    UserMessage,
    text_result,
)
from perstack.core.verification import VerificationResult

EXPERT = ev.ExpertRef(key="a", name="a", version="1.0.0")
RESULT = text_result(ToolCall(id="c1", skill_name="s", tool_name="t"), "fine")
DELEGATION = ev.Delegation(
    expert=EXPERT, tool_call_id="c1", tool_name="t", query="q", run_id="run2"
)
CHECK = VerificationResult(name="tests", priority="must", passed=True)
FAILURE = ev.RunError(name="E", message="m")
MESSAGE = ExpertMessage(contents=(ToolCallPart(tool_call_id="c1", tool_name="t"),))


def stamp(sequence: int, run_id: str = "run1", step: int = 1) -> ev.Stamp:
    return ev.Stamp(
        job_id="job1",
        run_id=run_id,
        expert_key="a",
        step_number=step,
        sequence=sequence,
        timestamp=1000 + sequence,
    )


def one_of_each(at: ev.Stamp) -> list[ev.RunEvent]:
    """An event of every type, all with the same stamp."""
    call = ev.ToolTarget(tool_call_id="c1", skill_name="s", kind="mcp")
    return [
        ev.StartRun(
            stamp=at, expert=EXPERT, provider="p", model="m", input_messages=(), step_limit=9
        ),
        ev.ResumeFromStop(stamp=at),
        ev.StartGeneration(stamp=at),
        ev.Retry(stamp=at, reason="r"),
        ev.CallTools(stamp=at, new_message=MESSAGE, targets=(call,), usage=Usage()),
        ev.StartToolCalls(stamp=at, tool_call_ids=("c1",)),
        ev.RecordToolResult(stamp=at, tool_result=RESULT),
        ev.AttemptCompletion(stamp=at, tool_result=RESULT, accepted=True),
        ev.StartVerification(stamp=at),
        ev.RecordVerification(stamp=at, verification=CHECK),
        ev.FinishMcpTools(stamp=at),
        ev.CallDelegate(stamp=at, delegate_to=(DELEGATION,)),
        ev.SkipDelegates(stamp=at),
        ev.CallInteractiveTool(stamp=at, tool_call_id="c1"),
        ev.ProceedToInteractiveTools(stamp=at),
        ev.ResolveToolResults(stamp=at),
        ev.FinishToolCall(stamp=at),
        ev.ResumeToolCalls(stamp=at),
        ev.FinishAllToolCalls(stamp=at),
        ev.ContinueToNextStep(stamp=at, next_step_number=2),
        ev.CompleteRun(
            stamp=at, text="t", new_message=ExpertMessage(contents=(TextPart(text="t"),))
        ),
        ev.StopRunByInteractiveTool(stamp=at),
        ev.StopRunByDelegate(stamp=at),
        ev.StopRunByExceededMaxSteps(stamp=at),
        ev.CompactHistory(stamp=at, summary="short", kept_messages=1),
        ev.StopRunByExceededBudget(
            stamp=at, limit="tokens", budget_run_id="run1", message="used up"
        ),
        ev.StopRunByError(stamp=at, error=FAILURE),
        ev.StopRunByCancellation(stamp=at, reason="r"),
    ]


def in_state(state: State) -> Checkpoint:
    """A checkpoint in some state, with one call that is answered."""
    start = blank_checkpoint(stamp(1), EXPERT)
    call = ToolCall(id="c1", skill_name="s", tool_name="t")
    return start.model_copy(
        update={
            "state": state,
            "messages": (MESSAGE,),
            "tool_calls": (call,),
            "tool_results": (RESULT,),
        }
    )


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("position", range(26))
def test_every_pair_of_state_and_event_is_either_in_the_table_or_rejected(
    state: State, position: int
) -> None:
    event = one_of_each(stamp(1))[position]
    target = TRANSITIONS[state].get(event.type)
    if event.type in STOPS_FROM_ANYWHERE:
        target = State.STOPPED
    if target is None:
        with pytest.raises(IllegalTransitionError):
            evolve(in_state(state), event)
    else:
        assert evolve(in_state(state), event).state is target


def test_every_event_type_has_a_place_in_the_table() -> None:
    in_table = {name for row in TRANSITIONS.values() for name in row} | STOPS_FROM_ANYWHERE
    assert {event.type for event in one_of_each(stamp(1))} == in_table


def test_an_event_out_of_sequence_or_of_another_run_is_rejected() -> None:
    start = blank_checkpoint(stamp(1), EXPERT)
    first = one_of_each(stamp(2))[0]
    foreign = one_of_each(stamp(1, run_id="run9"))[0]
    for event in (first, foreign):
        with pytest.raises(IllegalTransitionError):
            evolve(start, event)


def test_a_completed_run_cannot_be_stopped_afterwards() -> None:
    done = in_state(State.STOPPED).model_copy(update={"status": "completed"})
    with pytest.raises(IllegalTransitionError):
        evolve(done, ev.StopRunByCancellation(stamp=stamp(1), reason="late"))


def test_evolve_leaves_the_old_checkpoint_as_it_was() -> None:
    before = in_state(State.CALLING_MCP_TOOLS)
    copy = before.model_copy(deep=True)
    evolve(before, ev.RecordToolResult(stamp=stamp(1), tool_result=RESULT))
    assert before == copy


def test_calls_left_open_are_answered_when_a_conversation_goes_on() -> None:
    stopped = in_state(State.STOPPED).model_copy(update={"tool_results": ()})
    closing = close_open_calls(stopped)[-1]
    assert isinstance(closing, ToolMessage)
    assert [part.is_error for part in closing.contents] == [True]


def test_a_branch_starts_from_its_checkpoint_and_leaves_the_trunk_alone() -> None:
    asked = UserMessage(contents=(TextPart(text="q"),))
    trunk: tuple[ev.RunEvent, ...] = (
        ev.StartRun(
            stamp=stamp(1),
            expert=EXPERT,
            provider="p",
            model="m",
            input_messages=(asked,),
            step_limit=9,
        ),
        ev.StartGeneration(stamp=stamp(2)),
        ev.CompleteRun(
            stamp=stamp(3), text="t", new_message=ExpertMessage(contents=(TextPart(text="t"),))
        ),
    )
    twig: tuple[ev.RunEvent, ...] = (
        ev.ResumeFromStop(stamp=stamp(1, "run2", 2), continued_from="run1-1"),
        ev.FinishAllToolCalls(stamp=stamp(2, "run2", 2)),
    )
    runs = {"run1": trunk, "run2": twig}
    newest = newest_checkpoints(runs)
    assert newest["run1"].status == "completed"
    assert newest["run2"].messages == (asked,)
    assert newest["run2"].parent_id == "run1-1"
    assert checkpoint_at(runs, "run1-9") is None
    assert checkpoint_at(runs, "nonsense") is None
