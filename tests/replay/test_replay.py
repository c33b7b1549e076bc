"""What a replay takes for the same, and what it does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from perstack.core import events as ev
from perstack.core.history import newest_checkpoints
from perstack.core.messages import (
    Citation,
    ImageInlinePart,
    ProviderPart,
    ToolCall,
    ToolResult,
    Usage,
    text_result,
)
from perstack.definition.model import Definitions
from perstack.replay import runner
from perstack.replay.runner import ReplayResult, replay
from perstack.runtime.ports import Generation
from tests.fakes import (
    STANDARD_TOOLS,
    FakeModel,
    FakeSkills,
    FakeStore,
    Reply,
    call,
    calls,
    done,
    experts,
    says,
    tool,
)
from tests.fakes import job_context as context_of
from tests.replay.rough import rough_job
from tests.runtime.acting import go_on, work
from tests.runtime.test_typed_experts import team

pytestmark = pytest.mark.anyio

TEAM = experts(a=("a_x", "a_y"), a_x=(), a_y=())
Events = tuple[ev.RunEvent, ...]


def busy() -> dict[str, list[Reply]]:
    """A coordinator that uses a tool, calls two delegates at once and completes."""
    both = calls(call("x", "d1", query="one"), call("y", "d2", query="two"))
    return {
        "a": [calls(call("echo", "c1"), call("nothing", "c2")), both, done("over")],
        "@a/x": [calls(call("echo", "c3")), done("first")],
        "@a/y": [done("second")],
    }


async def recorded(replies: Mapping[str, Sequence[Reply]]) -> Events:
    """The events of a job that had these replies."""
    store = FakeStore()
    await work(context_of(TEAM, FakeModel(replies), store=store))
    return tuple(store.events_written)


def at(events: Events, kind: type[ev.RunEvent], which: int = 0) -> int:
    """The place of the nth event of a kind."""
    return [place for place, event in enumerate(events) if isinstance(event, kind)][which]


def place_of(found: ReplayResult) -> tuple[str | None, str | None, list[str]]:
    """What was recorded, what came instead, and which values differ."""
    divergence = found.divergence
    assert divergence is not None
    recorded, replayed = divergence.recorded, divergence.replayed
    return (
        recorded.type if recorded else None,
        replayed.type if replayed else divergence.remark,
        [difference.path for difference in divergence.differences],
    )


async def test_a_job_with_parallel_delegates_comes_again_as_it_was() -> None:
    events = await recorded(busy())
    found = await replay(events, TEAM)
    assert (found.divergence, found.matched, found.events) == (None, len(events), len(events))
    assert found.runs == 3


@pytest.mark.parametrize("limit", [1_000, 2_000, 100_000])
@pytest.mark.parametrize("is_old", [False, True])
async def test_a_long_result_comes_again_whatever_the_limit_is_now(
    limit: int, *, is_old: bool
) -> None:
    store = FakeStore()
    long = calls(call("echo", "c1", text="long " * 1_000), call("x", "d1", query="go"))
    reading = calls(call("readToolResult", "r1", toolCallId="c1", offset=900))
    replies: dict[str, list[Reply]] = {"a": [long, reading, done("o")], "@a/x": [says("y" * 3_000)]}
    skills = FakeSkills(tools_of=(*STANDARD_TOOLS, tool("readToolResult")))
    then = TEAM.model_copy(update={"max_tool_result_characters": 2_000})
    await work(context_of(then, FakeModel(replies), store=store, skills=skills))
    results = [event for event in store.events_written if isinstance(event, ev.RecordToolResult)]
    assert [event.whole_text is not None for event in results] == [True, True, False]
    as_older: dict[str, ev.RunEvent] = {
        event.id: event.model_copy(update={"tool_result": event.whole_result, "whole_text": None})
        for event in results
    }
    events = [as_older.get(event.id, event) if is_old else event for event in store.events_written]

    found = await replay(events, TEAM.model_copy(update={"max_tool_result_characters": limit}))

    assert (found.divergence, found.matched) == (None, len(events))


async def test_another_text_of_a_long_result_is_found() -> None:
    store = FakeStore()
    long = calls(call("x", "d1", query="go"))
    replies: dict[str, list[Reply]] = {"a": [long, done("o")], "@a/x": [says("y" * 3_000)]}
    limited = TEAM.model_copy(update={"max_tool_result_characters": 1_000})
    await work(context_of(limited, FakeModel(replies), store=store))
    events = list(store.events_written)
    place = at(tuple(events), ev.RecordToolResult)
    events[place] = events[place].model_copy(update={"whole_text": "y" * 3_001})

    found = await replay(events, limited)

    assert place_of(found)[:2] == ("recordToolResult", "recordToolResult")


HIDDEN_CRASHES = (527, 1807, 2255, 2774)
"""Lots in which a process dies where no event tells of it."""


def as_older_versions_recorded(event: ev.RunEvent) -> ev.RunEvent:
    fields = ("activation_id", "finish_reason", "max_retries")
    return event.model_copy(update=dict.fromkeys(type(event).model_fields.keys() & set(fields)))


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("seed", [*range(26), *HIDDEN_CRASHES])
async def test_whatever_happened_to_a_job_it_comes_again_as_it_was(
    seed: int, is_old: bool, tmp_path: Path
) -> None:
    job = await rough_job(seed, tmp_path)
    events = tuple(map(as_older_versions_recorded, job.events)) if is_old else job.events
    with anyio.fail_after(30):
        found = await replay(events, job.definitions)
    assert found.divergence is None
    assert found.matched == len(job.events)


async def test_tools_that_changed_on_the_way_come_again_as_they_were() -> None:
    store, skills = FakeStore(), FakeSkills()

    def change(call_: ToolCall) -> ToolResult:
        skills.version += 1
        added = () if skills.version == 2 else (tool("extra"),)
        skills.tools_of = (*STANDARD_TOOLS, *added)
        return text_result(call_, call_.tool_name)

    skills.handler = change
    names = ["extra", "echo", "extra", "extra", "echo", "extra"]
    replies: list[Reply] = [calls(call(name, f"c{n}")) for n, name in enumerate(names)]
    model = FakeModel({"a": [*replies, done("over")]})

    end = await work(context_of(TEAM, model, store=store, skills=skills))
    found = await replay(tuple(store.events_written), TEAM)

    assert end.text == "over"
    assert [each.tool_name for each in skills.called] == ["echo", "extra", "echo", "extra"]
    assert found.divergence is None


async def test_a_call_whose_effect_was_unknown_is_not_made_again() -> None:
    store = FakeStore()
    replies: dict[str, list[Reply]] = {"a": [calls(call("echo", "c1"), call("echo", "c2"))]}
    skills = FakeSkills(gate=anyio.Event())
    job = context_of(TEAM, FakeModel(replies), store=store, skills=skills)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, job)
        while len(skills.called) < 2:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    stopped = newest_checkpoints(store.runs())["run1"]
    again = context_of(TEAM, FakeModel({"a": [done("over")]}), store=store, known={"run1": stopped})
    await go_on(again, stopped)
    found = await replay(tuple(store.events_written), TEAM)
    assert found.divergence is None


@pytest.mark.parametrize(
    "useless",
    [
        Generation(text="no number", usage=Usage(input_tokens=3, total_tokens=3)),
        Generation(usage=Usage(input_tokens=3, total_tokens=3)),
        Generation(text="cut", finish_reason="length", usage=Usage(total_tokens=3)),
    ],
)
async def test_replies_that_were_of_no_use_to_the_end_come_again(useless: Generation) -> None:
    store, typed = FakeStore(), team({"type": "integer"})
    await work(context_of(typed, FakeModel({"a": [useless] * 3}), store=store, max_retries=2))
    stop = store.events_written[-1]
    found = await replay(tuple(store.events_written), typed)
    assert isinstance(stop, ev.StopRunByError)
    assert (stop.error.name, stop.usage) == ("MaxRetriesExceeded", useless.usage)
    assert (stop.finish_reason, stop.max_retries) == (useless.finish_reason, 2)
    assert found.divergence is None
    older = [
        event.model_copy(
            update={
                name: None
                for name in ("finish_reason", "max_retries")
                if name in type(event).model_fields
            }
        )
        for event in store.events_written
    ]
    found = await replay(tuple(older), typed)
    assert (found.divergence, found.matched) == (None, len(older))


async def test_what_the_tools_of_a_provider_did_comes_again() -> None:
    part = ProviderPart(provider="anthropic", tools=("web_search",), content={"content": [1]})
    searched = Generation(
        text="It is hot.",
        citations=(Citation(url="https://sun.example", start=0, end=10),),
        provider_part=part,
        media=(ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png"),),
    )
    events = await recorded({"a": [replace(searched, finish_reason="paused"), searched]})

    found = await replay(events, TEAM)

    assert (found.divergence, found.matched) == (None, len(events))


async def test_another_retry_limit_than_the_one_on_record_is_found() -> None:
    store = FakeStore()
    await work(context_of(TEAM, FakeModel({"a": [Generation()] * 2}), store=store, max_retries=1))
    *earlier, stop = store.events_written
    found = await replay((*earlier, changed(max_retries=5)(stop)), TEAM)
    assert found.divergence is not None


def changed(**update: object) -> Callable[[ev.RunEvent], ev.RunEvent]:
    return lambda event: event.model_copy(update=update)


@pytest.mark.parametrize(
    ("kind", "which", "update", "path"),
    [
        (ev.StartRun, 0, {"model": "other"}, None),
        (ev.CompleteRun, -1, {"text": "another answer"}, "text"),
        (ev.AttemptCompletion, 0, {"accepted": False}, "accepted"),
        (ev.StartToolCalls, 0, {"tool_call_ids": ("c9",)}, "toolCallIds.0"),
        (ev.ContinueToNextStep, 0, {"next_step_number": 7}, "stepNumber"),
    ],
)
async def test_a_decision_that_is_not_the_one_on_record_is_found(
    kind: type[ev.RunEvent], which: int, update: dict[str, object], path: str | None
) -> None:
    events = list(await recorded(busy()))
    place = at(tuple(events), kind, which)
    events[place] = changed(**update)(events[place])
    found = await replay(tuple(events), TEAM)
    paths = [] if found.divergence is None else place_of(found)[2]
    assert paths == ([] if path is None else [path])


async def test_a_delegate_that_is_gone_is_found_where_it_was_called() -> None:
    both = calls(call("x", "d1", query="one"), call("y", "d2", query="two"))
    replies = {"a": [both, done("over")], "@a/x": [done("first")], "@a/y": [done("second")]}
    events = await recorded(replies)
    less = Definitions(experts={**TEAM.experts, "a": experts(a=("a_x",)).experts["a"]})
    recorded_type, came, paths = place_of(await replay(events, less))
    assert (recorded_type, came, paths[0][:7]) == ("callTools", "callTools", "targets")


async def test_a_record_that_breaks_off_is_compared_as_far_as_it_goes() -> None:
    events = await recorded(busy())
    for length in range(1, len(events)):
        found = await replay(events[:length], TEAM)
        assert (found.divergence, found.matched) == (None, length)


async def test_more_than_is_recorded_is_found() -> None:
    replies: dict[str, list[Reply]] = {"a": [calls(call("echo", "c1")), done("over")]}
    events = list(await recorded(replies))
    place = at(tuple(events), ev.ContinueToNextStep)
    stamp = events[place].stamp
    events[place:] = [ev.StopRunByExceededMaxSteps(stamp=stamp)]
    # The numbers of steps come from the record, so the limit is believed.
    assert (await replay(tuple(events), TEAM)).is_identical
    events[place] = ev.CompleteRun(stamp=stamp, text="over")
    with pytest.raises(Exception, match="not legal"):
        await replay(tuple(events), TEAM)


async def test_a_model_that_is_asked_without_an_answer_on_record_is_a_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = list(await recorded({"a": [done("over")]}))

    def nothing(_event: ev.RunEvent, _purpose: str) -> None:
        return None

    with monkeypatch.context() as patches:
        patches.setattr("perstack.replay.recorded_ports.recorded_response", nothing)
        found = await replay(tuple(events), TEAM)
    assert place_of(found) == ("callTools", "the model is asked", [])


async def test_a_replay_that_does_not_move_any_more_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def forever(*_: object) -> None:
        await anyio.sleep_forever()

    events = await recorded({"a": [done("over")]})
    with monkeypatch.context() as patches:
        patches.setattr(runner, "STALL_TIMEOUT_SECONDS", 0.05)
        patches.setattr("perstack.replay.recorded_ports.RecordedModel.generate", forever)
        found = await replay(events, TEAM)
    assert place_of(found) == ("callTools", "nothing more happens", [])
