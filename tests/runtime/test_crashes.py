"""A process that dies between the intent of a tool call and its result."""

import pytest

from perstack.core.checkpoint import Checkpoint
from perstack.core.history import newest_checkpoints
from perstack.runtime.context import JobStepCounter
from tests.fakes import FakeModel, FakeSkills, FakeStore, call, calls, done, experts, job_context
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio

ONE = experts(a=())


async def died_at_the_call(tool: str) -> tuple[Checkpoint, FakeSkills]:
    """Where a run stands that has announced a call and knows no result, and who was called."""
    store, skills = FakeStore(), FakeSkills()
    model = FakeModel({"a": [calls(call(tool, "c1", text="x")), done("end")]})
    await work(job_context(ONE, model, skills=skills, store=store))
    events = store.runs()["run1"]
    cut = next(i for i, event in enumerate(events) if event.type == "startToolCalls") + 1
    return newest_checkpoints({"run1": events[:cut]})["run1"], skills


async def resumed(checkpoint: Checkpoint) -> tuple[FakeModel, FakeSkills, Checkpoint]:
    model, skills = FakeModel({"a": [done("end")]}), FakeSkills()
    job = job_context(ONE, model, skills=skills, steps=JobStepCounter(last=1, limit=9))
    return model, skills, await go_on(job, checkpoint)


async def test_a_call_that_may_be_repeated_is_made_again_under_the_same_idempotency_key() -> None:
    checkpoint, before = await died_at_the_call("look")
    _, after, end = await resumed(checkpoint)
    assert before.keys == after.keys == ["run1:c1"]
    assert end.text == "end"


async def test_a_call_that_may_not_be_repeated_is_reported_as_of_unknown_effect() -> None:
    checkpoint, before = await died_at_the_call("echo")
    model, after, end = await resumed(checkpoint)
    assert (before.keys, after.keys) == (["run1:c1"], [])
    assert "its effect is unknown" in str(model.requests[0].messages[-1])
    assert end.text == "end"
