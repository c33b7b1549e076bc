"""Whatever models and tools do: runs end, calls are answered once, the events are the truth."""

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RUN_EVENT, RunEvent
from perstack.core.history import JobHistory, checkpoint_at, newest_checkpoints
from perstack.core.messages import ExpertMessage, FinishReason, ToolCallPart, ToolMessage
from perstack.definition.verification import Verification
from perstack.errors import ModelError
from perstack.runtime.context import JobStepCounter
from perstack.runtime.ports import Generation, GenerationRequest
from tests.fakes import (
    FakeModel,
    FakeSkills,
    FakeStore,
    Reply,
    experts,
    job_context,
    with_checks,
)
from tests.runtime.acting import go_on, work

TESTS = Verification(name="tests", command=("true",))
LINT = Verification(name="lint", command=("true",), priority="should")
PLAIN = experts(a=("a_x", "a_y", "b"), a_x=("a_y",), a_y=(), b=("a",))
TEAM = with_checks(with_checks(PLAIN, "a", TESTS, LINT, attempts=2), "@a/x", TESTS)
TOOLS = (
    "echo",
    "look",
    "todo",
    "clearTodo",
    "attemptCompletion",
    "x",
    "y",
    "b",
    "askUser",
    "nowhere",
    "",
)
LIMIT = 12

arguments: st.SearchStrategy[dict[str, object]] = st.one_of(
    st.just({}),
    st.just({"fail": True}),
    st.sampled_from([{"query": "part"}, {"query": ""}]),
    st.sampled_from([{"result": "done"}, {"result": ""}]),
    st.just({"newTodos": ["one"]}),
    st.just({"completedTodos": [0, 7]}),
    st.just({"newTodos": 3}),
)


def tool_call(call_id: str, name: str, args: dict[str, object], error: str | None) -> ToolCallPart:
    """A call; hypothesis cannot read the aliases of the record itself."""
    return ToolCallPart(tool_call_id=call_id, tool_name=name, args=args, args_error=error)


tool_calls = st.builds(
    tool_call,
    st.sampled_from(["c1", "c2", "c3", ""]),
    st.sampled_from(TOOLS),
    arguments,
    st.sampled_from([None, None, None, "broken"]),
)
finishes: st.SearchStrategy[FinishReason] = st.sampled_from(
    ["stop", "toolCalls", "length", "contentFilter", "paused", "other"]
)
generations = st.builds(
    Generation,
    text=st.sampled_from(["", "", "some text", "  "]),
    tool_calls=st.lists(tool_calls, max_size=4).map(tuple),
    finish_reason=st.one_of(st.just("toolCalls"), finishes),
)
failures = st.sampled_from(
    [
        ModelError("no", name="Failure", provider="fake", is_retryable=is_retryable)
        for is_retryable in (True, True, False)
    ]
)
scripts: st.SearchStrategy[list[Reply]] = st.lists(
    st.one_of(generations, generations, failures), min_size=1, max_size=12
)


def model_of(script: list[Reply]) -> FakeModel:
    """Plays the script to whoever asks, over and over."""
    position = 0

    def reply(_request: GenerationRequest) -> Reply:
        nonlocal position
        position += 1
        return script[position % len(script)]

    return FakeModel(reply)


def skills_of(script: list[Reply]) -> FakeSkills:
    """Skills whose checks fail a few times."""
    return FakeSkills(problems={"tests": ["no"] * (len(script) % 4), "lint": ["no"]})


def played(script: list[Reply]) -> tuple[FakeStore, Checkpoint]:
    """A job in which experts reply as the script has it."""

    async def play() -> tuple[FakeStore, Checkpoint]:
        store = FakeStore()
        job = job_context(
            TEAM,
            model_of(script),
            skills=skills_of(script),
            store=store,
            max_steps=LIMIT,
            max_retries=2,
        )
        with anyio.fail_after(30):
            end = await work(job)
        return store, end

    return anyio.run(play)


def assert_each_call_is_answered_once(checkpoint: Checkpoint) -> None:
    """The tool message after an expert message answers each of its calls once, in their order."""
    messages = checkpoint.messages
    for position, message in enumerate(messages):
        if isinstance(message, ExpertMessage) and message.tool_calls:
            answer = messages[position + 1] if position + 1 < len(messages) else None
            if answer is None:
                assert checkpoint.tool_calls
                continue
            assert isinstance(answer, ToolMessage)
            asked = [call.tool_call_id for call in message.tool_calls]
            assert [part.tool_call_id for part in answer.contents] == asked
            assert len(set(asked)) == len(asked)


thorough = settings(max_examples=120)


@thorough
@given(scripts)
def test_every_script_ends_in_a_final_status_with_every_call_answered_once(
    script: list[Reply],
) -> None:
    store, end = played(script)
    assert end.is_final
    assert end.status != "stoppedByDelegate"
    for checkpoint in newest_checkpoints(store.runs()).values():
        assert checkpoint.is_final
        assert_each_call_is_answered_once(checkpoint)
    steps = [
        event.stamp.step_number for event in store.events_written if event.type == "startGeneration"
    ]
    assert max(steps) <= LIMIT


@thorough
@given(scripts)
def test_folding_any_prefix_of_the_stored_events_gives_the_checkpoint_of_that_moment(
    script: list[Reply],
) -> None:
    store, end = played(script)
    runs = {run_id: through_json(events) for run_id, events in store.runs().items()}
    for _, checkpoint in JobHistory(through_json(tuple(store.events_written))).recorded_events:
        assert checkpoint_at(runs, checkpoint.id) == checkpoint
    assert newest_checkpoints(runs)["run1"] == end


def through_json(events: tuple[RunEvent, ...]) -> tuple[RunEvent, ...]:
    """The events as a store gives them back."""
    return tuple(RUN_EVENT.validate_json(RUN_EVENT.dump_json(event)) for event in events)


@settings(max_examples=40)
@given(scripts, st.data())
def test_a_job_cut_off_after_any_event_goes_on_to_a_final_status(
    script: list[Reply], data: st.DataObject
) -> None:
    store, _ = played(script)
    cut = data.draw(st.integers(1, len(store.events_written)))
    crashed = FakeStore()
    crashed.events_written = store.events_written[:cut]
    known = newest_checkpoints(crashed.runs())
    last = max(checkpoint.step_number for checkpoint in known.values())

    async def recover() -> Checkpoint:
        job = job_context(
            TEAM,
            model_of(script),
            store=crashed,
            max_retries=2,
            known=known,
            steps=JobStepCounter(last=last, limit=last + LIMIT),
        )
        with anyio.fail_after(30):
            return (
                known["run1"]
                if known["run1"].status == "completed"
                else await go_on(job, known["run1"])
            )

    end = anyio.run(recover)
    assert end.is_final
    stored = crashed.runs()
    for run_id, events in stored.items():
        assert [event.stamp.sequence for event in events] == list(range(1, len(events) + 1)), run_id
    for checkpoint in newest_checkpoints(stored).values():
        assert_each_call_is_answered_once(checkpoint)


@pytest.mark.parametrize(
    "script", [[Generation()], [ModelError("x", name="F", provider="f", is_retryable=True)]]
)
def test_a_model_that_never_says_anything_useful_is_given_up(script: list[Reply]) -> None:
    _, end = played(script)
    assert end.status == "stoppedByError"
