"""What is left when a run is stopped from outside."""

import anyio
import pytest

from perstack.core.history import newest_checkpoints
from perstack.core.messages import ToolCall, ToolResult, text_result
from perstack.definition.model import Expert
from perstack.runtime.context import JobStepCounter
from perstack.runtime.ports import Deltas, Generation, GenerationRequest
from tests.fakes import (
    FakeModel,
    FakeSkills,
    FakeStore,
    call,
    calls,
    done,
    experts,
    job_context,
    says,
)
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio

ONE = experts(a=())
TEAM = experts(a=("a_x", "a_y"), a_x=(), a_y=())


async def test_a_cancelled_run_records_its_stop_and_can_be_resumed() -> None:
    store = FakeStore()
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1"))]})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, job_context(ONE, model, skills=skills, store=store))
        while not skills.called:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    stopped = newest_checkpoints(store.runs())["run1"]
    assert (stopped.status, len(model.requests)) == ("stoppedByCancellation", 1)
    again = FakeModel({"a": [done("after all")]})
    end = await go_on(job_context(ONE, again, steps=JobStepCounter(last=1, limit=10)), stopped)
    assert end.text == "after all"


async def test_a_result_that_arrived_before_the_cancellation_is_kept() -> None:
    store = FakeStore()
    slow = anyio.Event()
    quick_done = anyio.Event()

    class Uneven(FakeSkills):
        async def call(self, expert: Expert, call: ToolCall, idempotency_key: str) -> ToolResult:
            if call.id == "slow":
                await slow.wait()
            quick_done.set()
            return text_result(call, "ok")

    model = FakeModel({"a": [calls(call("echo", "quick"), call("echo", "slow"))]})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, job_context(ONE, model, skills=Uneven(), store=store))
        await quick_done.wait()
        tasks.cancel_scope.cancel()
    stopped = newest_checkpoints(store.runs())["run1"]
    assert [result.id for result in stopped.tool_results] == ["quick"]


async def test_cancelling_a_coordinator_stops_its_delegates_and_all_can_be_resumed() -> None:
    store = FakeStore()
    waiting: list[str] = []

    class Hanging(FakeModel):
        async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
            if request.expert_key != "a":
                waiting.append(request.expert_key)
                await anyio.sleep_forever()
            return await super().generate(request, None)

    model = Hanging({"a": [calls(call("x", "c1", query="1"), call("y", "c2", query="2"))]})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, job_context(TEAM, model, store=store))
        while len(waiting) < 2:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    known = newest_checkpoints(store.runs())
    assert {checkpoint.status for checkpoint in known.values()} == {"stoppedByCancellation"}
    again = FakeModel({"a": [done("whole")], "@a/x": [says("one")], "@a/y": [says("two")]})
    end = await go_on(
        job_context(TEAM, again, known=known, steps=JobStepCounter(last=3, limit=20)), known["run1"]
    )
    assert (end.text, len(again.requests)) == ("whole", 3)


async def test_no_model_is_called_after_a_cancellation() -> None:
    store = FakeStore()
    model = FakeModel(lambda _request: calls(call("echo", f"c{len(store.events_written)}")))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, job_context(ONE, model, store=store))
        while len(model.requests) < 3:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    asked = len(model.requests)
    await anyio.wait_all_tasks_blocked()
    assert len(model.requests) == asked
    assert store.types("run1")[-1] == "stopRunByCancellation"
