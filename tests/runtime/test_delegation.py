"""How experts hand work to each other."""

import anyio
import pytest

from perstack.core.history import newest_checkpoints
from perstack.core.messages import ImageInlinePart, TextPart, ToolMessage
from perstack.runtime.context import JobStepCounter
from perstack.runtime.ports import Deltas, Generation, GenerationRequest
from tests.fakes import FakeModel, FakeStore, Reply, call, calls, done, experts, job_context
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio

TEAM = experts(a=("a_x", "a_y"), a_x=("a_y",), a_y=())


async def test_a_delegate_sees_only_its_query_and_its_answer_comes_back() -> None:
    model = FakeModel(
        {"a": [calls(call("x", "c1", query="part")), done("whole")], "@a/x": [done("piece")]}
    )
    end = await work(job_context(TEAM, model))
    child = next(request for request in model.requests if request.expert_key == "@a/x")
    assert [message.type for message in child.messages] == ["instructionMessage", "userMessage"]
    assert "part" in str(child.messages[1])
    answer = model.requests[-1].messages[-1]
    assert isinstance(answer, ToolMessage)
    assert "piece" in str(answer)
    assert end.text == "whole"


async def test_images_that_a_delegate_made_come_back_with_its_answer() -> None:
    image = ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png")
    drawn = Generation(text="drawn", media=(image,))
    model = FakeModel({"a": [calls(call("x", "c1", query="draw")), done("ok")], "@a/x": [drawn]})
    await work(job_context(TEAM, model))
    answer = model.requests[-1].messages[-1]
    assert isinstance(answer, ToolMessage)
    assert answer.contents[0].contents == (TextPart(text="drawn"), image)


async def test_a_coordinator_goes_on_under_the_same_run_id() -> None:
    store = FakeStore()
    model = FakeModel(
        {"a": [calls(call("x", "c1", query="part")), done("whole")], "@a/x": [done("piece")]}
    )
    await work(job_context(TEAM, model, store=store))
    assert list(store.runs()) == ["run1", "run2"]
    types = store.types("run1")
    start = types.index("callDelegate")
    assert types[start : start + 5] == [
        "callDelegate",
        "stopRunByDelegate",
        "recordToolResult",
        "resumeFromStop",
        "resolveToolResults",
    ]


async def test_delegates_of_one_message_work_side_by_side() -> None:
    both_ask = anyio.Event()
    waiting: list[str] = []

    class Meeting(FakeModel):
        async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
            if request.expert_key != "a":
                waiting.append(request.expert_key)
                if len(waiting) == 2:
                    both_ask.set()
                await both_ask.wait()
            return await super().generate(request, None)

    model = Meeting(
        {
            "a": [calls(call("x", "c1", query="1"), call("y", "c2", query="2")), done("whole")],
            "@a/x": [done("one")],
            "@a/y": [done("two")],
        }
    )
    with anyio.fail_after(30):
        end = await work(job_context(TEAM, model))
    answer = model.requests[-1].messages[-1]
    assert isinstance(answer, ToolMessage)
    assert [part.tool_call_id for part in answer.contents] == ["c1", "c2"]
    assert end.text == "whole"


async def test_a_failing_delegate_is_an_error_for_its_parent_and_leaves_the_others_alone() -> None:
    def script(request: GenerationRequest) -> Reply:
        if request.expert_key == "@a/x":
            raise ZeroDivisionError
        if request.expert_key == "@a/y":
            return done("two")
        if len(request.messages) == 2:
            return calls(call("x", "c1", query="1"), call("y", "c2", query="2"))
        return done("whole")

    model = FakeModel(script)
    end = await work(job_context(TEAM, model))
    answer = model.requests[-1].messages[-1]
    assert isinstance(answer, ToolMessage)
    assert [part.is_error for part in answer.contents] == [True, False]
    assert "Delegation to @a/x failed" in str(answer.contents[0])
    assert end.status == "completed"


async def test_delegation_nests() -> None:
    model = FakeModel(
        {
            "a": [calls(call("x", "c1", query="1")), done("whole")],
            "@a/x": [calls(call("y", "c2", query="2")), done("half")],
            "@a/y": [done("leaf")],
        }
    )
    store = FakeStore()
    end = await work(job_context(TEAM, model, store=store))
    assert end.text == "whole"
    checkpoints = newest_checkpoints(store.runs())
    parents = [cp.delegated_by.run_id if cp.delegated_by else None for cp in checkpoints.values()]
    assert parents == [None, "run1", "run2"]


async def test_a_delegate_call_without_a_query_is_answered_with_an_error() -> None:
    store = FakeStore()
    model = FakeModel({"a": [calls(call("x", "c1", task="1")), done("whole")]})
    end = await work(job_context(TEAM, model, store=store))
    assert (end.text, list(store.runs())) == ("whole", ["run1"])


async def test_the_step_limit_holds_over_all_runs_of_the_job() -> None:
    def script(request: GenerationRequest) -> Reply:
        if request.expert_key == "a" and len(request.messages) == 2:
            return calls(call("x", "c1", query="1"), call("y", "c2", query="2"))
        return calls(call("echo", f"c{len(request.messages)}"))

    model = FakeModel(script)
    end = await work(job_context(TEAM, model, max_steps=7))
    assert (end.status, len(model.requests)) == ("stoppedByExceededMaxSteps", 7)


async def test_step_numbers_are_unique_within_a_job() -> None:
    store = FakeStore()
    model = FakeModel(
        {
            "a": [calls(call("x", "c1", query="1"), call("y", "c2", query="2")), done("whole")],
            "@a/x": [calls(call("echo", "e1")), done("one")],
            "@a/y": [calls(call("echo", "e2")), done("two")],
        }
    )
    await work(job_context(TEAM, model, store=store))
    steps = [
        event.stamp.step_number for event in store.events_written if event.type == "startGeneration"
    ]
    assert sorted(steps) == [1, 2, 3, 4, 5, 6]


async def test_a_parent_stopped_while_waiting_takes_finished_delegates_from_the_store() -> None:
    store = FakeStore()
    replies = {
        "a": [calls(call("x", "c1", query="1"), call("y", "c2", query="2")), done("whole")],
        "@a/x": [done("one")],
        "@a/y": [done("two")],
    }
    await work(job_context(TEAM, FakeModel(replies), store=store))
    runs = store.runs()
    cut = next(i for i, event in enumerate(runs["run1"]) if event.type == "recordToolResult")
    crashed = {**runs, "run1": runs["run1"][:cut]}
    known = newest_checkpoints(crashed)
    model = FakeModel({"a": [done("whole")]})
    job = job_context(TEAM, model, known=known, steps=JobStepCounter(last=10, limit=20))
    end = await go_on(job, known["run1"])
    assert (end.text, len(model.requests)) == ("whole", 1)
