"""What a step came to: told where a run stops, ends, or asks others."""

from typing import Any

import pytest

from perstack.core import events as ev
from perstack.core.full_wire import to_full_wire
from perstack.core.history import JobHistory
from perstack.core.messages import Usage
from perstack.core.step import TELLING_TYPES, TELLING_TYPES_IN_FULL, StepTracker
from perstack.core.wire import RUN_TYPES, to_wire
from perstack.runtime.ports import Generation
from tests.fakes import FakeModel, FakeStore, Reply, call, calls, done, experts, job_context, says
from tests.runtime.acting import work

pytestmark = pytest.mark.anyio

Json = dict[str, Any]


def costing(generation: Reply, tokens: int) -> Generation:
    """A reply that took so many tokens."""
    assert isinstance(generation, Generation)
    usage = Usage(input_tokens=tokens, total_tokens=tokens)
    return Generation(
        text=generation.text,
        tool_calls=generation.tool_calls,
        finish_reason=generation.finish_reason,
        usage=usage,
    )


async def recorded(replies: dict[str, list[Reply]], **options: Any) -> tuple[ev.RunEvent, ...]:
    """The events of a job of the expert `a`, which has the delegate `@a/x`."""
    store = FakeStore()
    definitions = experts(a=("a_x",), a_x=())
    await work(job_context(definitions, FakeModel(replies), store=store, **options))
    return tuple(store.events_written)


def documents(events: tuple[ev.RunEvent, ...], *, is_full: bool = False) -> list[Json]:
    steps = StepTracker(is_full=is_full)
    to_document = to_full_wire if is_full else to_wire
    return [
        to_document(event, checkpoint, steps.follow(event, checkpoint))
        for event, checkpoint in JobHistory(events).recorded_events
    ]


def of_type(stream: list[Json], event_type: str) -> list[Json]:
    return [event for event in stream if event["type"] == event_type]


def ids(messages: list[Json]) -> list[str]:
    return [message["id"] for message in messages]


DELEGATING: dict[str, list[Reply]] = {
    "a": [
        costing(calls(call("echo", "c1"), call("x", "d1", query="go")), 10),
        costing(calls(call("echo", "c2")), 7),
        costing(done("end"), 5),
    ],
    "@a/x": [costing(done("child"), 3)],
}


async def test_a_run_that_ends_tells_its_last_step() -> None:
    (*_, end) = documents(await recorded(DELEGATING))
    step = end["step"]
    assert step["stepNumber"] == end["stepNumber"]
    assert [message["type"] for message in step["newMessages"]] == [
        "expertMessage",
        "toolMessage",
        "expertMessage",
    ]
    assert ids(step["newMessages"]) == ids(end["checkpoint"]["messages"])[-3:]
    assert [each["toolName"] for each in step["toolCalls"]] == ["attemptCompletion"]
    assert [each["toolName"] for each in step["toolResults"]] == ["attemptCompletion"]
    assert step["usage"]["inputTokens"] == 5
    assert step["startedAt"] <= step["finishedAt"] == end["timestamp"]


async def test_a_completion_by_a_tool_tells_the_tokens_of_its_call() -> None:
    stream = documents(await recorded(DELEGATING))
    assert [end["usage"]["inputTokens"] for end in of_type(stream, "completeRun")] == [3, 5]


async def test_a_text_tells_its_tokens_without_those_of_failed_attempts() -> None:
    replies: dict[str, list[Reply]] = {"a": [costing(says(""), 2), costing(says("hello"), 4)]}
    (*_, end) = documents(await recorded(replies))
    assert end["usage"]["inputTokens"] == 4
    assert end["checkpoint"]["usage"]["inputTokens"] == 6


async def test_a_delegation_repeats_its_message_and_its_tokens() -> None:
    stream = documents(await recorded(DELEGATING))
    (called,) = of_type(stream, "callDelegate")
    assert called["newMessage"] == of_type(stream, "callTools")[0]["newMessage"]
    assert called["usage"]["inputTokens"] == 10


async def test_a_run_that_waits_tells_what_is_open_and_what_is_answered() -> None:
    (stop,) = of_type(documents(await recorded(DELEGATING)), "stopRunByDelegate")
    step = stop["step"]
    assert [each["id"] for each in step["toolCalls"]] == ["c1", "d1"]
    assert [each["id"] for each in step["partialToolResults"]] == ["c1"]
    assert [each["id"] for each in step["pendingToolCalls"]] == ["d1"]
    assert "toolResults" not in step
    assert len(step["newMessages"]) == 1


async def test_the_tokens_of_all_steps_are_those_of_the_job() -> None:
    stream = documents(await recorded(DELEGATING), is_full=True)
    told = sum(event["step"]["usage"]["inputTokens"] for event in stream if "step" in event)
    assert told == 10 + 7 + 5 + 3


async def test_a_question_repeats_its_message_and_its_tokens() -> None:
    reply = costing(calls(call("askUser", "q1"), call("askUser", "q2")), 8)
    stream = documents(await recorded({"a": [reply]}))
    asked = of_type(stream, "callInteractiveTool")
    assert [each["toolCall"]["id"] for each in asked] == ["q1", "q2"]
    assert {each["newMessage"]["id"] for each in asked} == {"run1-m2"}
    assert [each["usage"]["inputTokens"] for each in asked] == [8, 8]
    assert [each["id"] for each in stream[-1]["step"]["pendingToolCalls"]] == ["q1", "q2"]


async def test_delegates_stand_for_skills_of_their_calls() -> None:
    stream = documents(await recorded(DELEGATING))
    (stop,) = of_type(stream, "stopRunByDelegate")
    (called,) = of_type(stream, "callDelegate")
    told = [
        *called["toolCalls"],
        *stop["checkpoint"]["pendingToolCalls"],
        *stop["step"]["pendingToolCalls"],
        *[each["toolResult"] for each in of_type(stream, "recordToolResult")[-2:-1]],
        *of_type(stream, "resolveToolResults")[0]["toolResults"][1:],
    ]
    assert {each["skillName"] for each in told} == {"delegate/@a/x"}
    assert {each["skillName"] for each in stop["step"]["partialToolResults"]} == {"@perstack/base"}


def test_every_end_and_stop_tells_its_step() -> None:
    ends = {name for name in RUN_TYPES if name.startswith(("stopRunBy", "completeRun"))}
    assert ends | {"callDelegate", "callInteractiveTool"} == TELLING_TYPES
    assert {*RUN_TYPES} > TELLING_TYPES_IN_FULL > TELLING_TYPES


async def test_results_stand_in_the_order_of_their_calls_whatever_came_first() -> None:
    replies: dict[str, list[Reply]] = {
        "a": [calls(call("echo", "c1"), call("echo", "c2"), call("todo", "c3")), done("end")]
    }
    events = list(await recorded(replies))
    first = next(i for i, event in enumerate(events) if event.type == "recordToolResult")
    one, other = events[first], events[first + 1]
    events[first : first + 2] = [
        other.model_copy(update={"stamp": one.stamp}),
        one.model_copy(update={"stamp": other.stamp}),
    ]
    stream = documents(tuple(events))
    (resolved,) = of_type(stream, "resolveToolResults")
    assert [each["id"] for each in resolved["toolResults"]] == ["c1", "c2", "c3"]


async def test_a_failure_tells_its_step() -> None:
    (*_, stop) = documents(await recorded({"a": [costing(says(""), 2)]}, max_retries=0))
    assert stop["type"] == "stopRunByError"
    assert stop["step"]["newMessages"] == []
    assert stop["step"]["usage"]["inputTokens"] == 2


async def test_a_step_that_is_taken_up_in_the_middle_has_the_message_of_its_calls() -> None:
    history = JobHistory(await recorded(DELEGATING)).recorded_events
    place = next(i for i, each in enumerate(history) if each.event.type == "recordToolResult")
    steps = StepTracker()
    told = [steps.follow(*each) for each in history[place:]]
    step = next(each for each in told if each is not None)
    assert [each.id for each in step.tool_calls] == ["c1", "d1"]
    assert (step.first_message, step.end_message) == (2, 3)


async def test_in_full_each_generation_has_the_conversation() -> None:
    stream = documents(await recorded(DELEGATING), is_full=True)
    counts = [len(event["messages"]) for event in of_type(stream, "startGeneration")]
    assert counts == [2, 2, 4, 6]


async def test_in_full_each_step_ends_with_its_checkpoints() -> None:
    stream = documents(await recorded(DELEGATING), is_full=True)
    ends = of_type(stream, "continueToNextStep")
    assert len(ends) == 2
    for end in ends:
        assert end["checkpoint"]["stepNumber"] == end["step"]["stepNumber"] == end["stepNumber"]
        assert end["nextCheckpoint"]["stepNumber"] == end["nextStepNumber"]
        assert end["nextCheckpoint"]["id"] == end["id"] != end["checkpoint"]["id"]
        assert end["nextCheckpoint"]["messages"] == end["checkpoint"]["messages"]
        assert ids(end["step"]["newMessages"])[-1] == ids(end["checkpoint"]["messages"])[-1]
    assert [len(end["step"]["newMessages"]) for end in ends] == [1, 2]
    assert "toolResults" in ends[1]["step"]


async def test_in_full_the_first_step_has_what_the_run_was_begun_with() -> None:
    replies: dict[str, list[Reply]] = {"a": [calls(call("echo", "c1")), done("end")]}
    stream = documents(await recorded(replies), is_full=True)
    (end,) = of_type(stream, "continueToNextStep")
    assert end["step"]["inputMessages"] == stream[0]["inputMessages"]
    assert len(end["step"]["newMessages"]) == 2


async def test_in_full_results_after_a_delegation_end_the_calls_that_were_open() -> None:
    events = await recorded(DELEGATING)
    types = [event["type"] for event in documents(events, is_full=True)]
    after = types[types.index("resumeFromStop") :]
    assert after[:4] == [
        "resumeFromStop",
        "resolveToolResults",
        "finishAllToolCalls",
        "continueToNextStep",
    ]
    assert after.count("finishToolCall") == 1
    (ended,) = of_type(documents(events, is_full=True), "finishAllToolCalls")
    assert [message["type"] for message in ended["newMessages"]] == ["toolMessage"]


async def test_in_full_what_an_expert_is_told_of_its_budget_begins_a_step() -> None:
    replies: dict[str, list[Reply]] = {
        "a": [calls(call("echo", f"c{number}")) for number in range(5)]
    }
    events = await recorded(replies, max_steps=5)
    stream = documents(events, is_full=True)
    (told,) = [event for event in of_type(stream, "continueToNextStep") if "notice" in event]
    assert told["nextCheckpoint"]["messages"][-1]["type"] == "userMessage"
    assert told["checkpoint"]["messages"][-1]["type"] == "toolMessage"
    assert told["step"]["newMessages"][-1]["type"] == "toolMessage"
    last = stream[-1]["step"]["newMessages"]
    assert [message["type"] for message in last] == ["expertMessage", "toolMessage"]
