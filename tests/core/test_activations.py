"""The stretches of work on a job, from one stop to the next."""

from pathlib import Path

import pytest

from perstack.core.activations import JobActivation, checkpoints_at_end, split_into_activations
from perstack.engine import Engine
from perstack.errors import ModelError
from perstack.jobs import JobView
from perstack.runtime.start_plan import JobRequest
from tests.engines import engine_on
from tests.fakes import FakeModel, call, calls, done

pytestmark = pytest.mark.anyio

BROKEN = ModelError("Broken.", name="BadGatewayError", provider="x")


async def worked(engine: Engine, request: JobRequest) -> JobView:
    return await (await engine.start(request)).wait()


async def found_in(engine: Engine, job_id: str) -> list[JobActivation]:
    return split_into_activations(await engine.history(job_id))


def stops(found: list[JobActivation]) -> list[str | None]:
    return [None if stretch.stop_event is None else stretch.stop_event.type for stretch in found]


async def test_a_stretch_goes_from_one_stop_to_the_next(tmp_path: Path) -> None:
    model = FakeModel(
        {"reviewer": [BROKEN, calls(call("askUser", "q1", question="?")), done("x"), done("y")]}
    )
    async with engine_on(tmp_path, model) as engine:
        job_id = (await worked(engine, JobRequest(expert_key="reviewer", query="look"))).job.id
        await worked(engine, JobRequest(job_id=job_id))
        await worked(engine, JobRequest(job_id=job_id, query="an answer"))
        await worked(engine, JobRequest(job_id=job_id, query="a follow-up"))
        found = await found_in(engine, job_id)
    assert stops(found) == [
        "stopRunByError",
        "stopRunByInteractiveTool",
        "completeRun",
        "completeRun",
    ]
    assert [stretch.run_id == found[0].run_id for stretch in found] == [True, True, True, False]
    assert [stretch.started_at for stretch in found] == sorted(each.started_at for each in found)


async def test_delegates_do_not_end_a_stretch_and_belong_to_what_was_when_it_ended(
    tmp_path: Path,
) -> None:
    model = FakeModel(
        {
            "reviewer": [
                calls(call("file", "c1", query="a")),
                done("one"),
                calls(call("file", "c2", query="b")),
                done("two"),
            ],
            "@reviewer/file": [done("fine"), done("fine")],
        }
    )
    async with engine_on(tmp_path, model) as engine:
        job_id = (await worked(engine, JobRequest(expert_key="reviewer", query="look"))).job.id
        await worked(engine, JobRequest(job_id=job_id, query="and then?"))
        trail = await engine.history(job_id)
    first, second = split_into_activations(trail)
    assert stops([first, second]) == ["completeRun", "completeRun"]
    then = checkpoints_at_end(trail, first)
    assert len(then) == 2
    assert then[first.run_id].text == "one"
    assert len(checkpoints_at_end(trail, second)) == 4
    assert second.end_index == len(trail)


async def test_a_branch_takes_the_place_of_what_had_not_stopped(tmp_path: Path) -> None:
    model = FakeModel({"reviewer": [calls(call("echo", "c1")), done("one"), done("two")]})
    async with engine_on(tmp_path, model) as engine:
        view = await worked(engine, JobRequest(expert_key="reviewer", query="look"))
        job_id, early = view.job.id, f"{view.checkpoint.run_id}-1"
        branching = JobRequest(job_id=job_id, query="or else?", checkpoint_id=early)
        await worked(engine, branching)
        trail = await engine.history(job_id)
    whole = split_into_activations(trail)
    cut_off = split_into_activations([step for step in trail if step[0].type != "completeRun"])
    assert stops(whole) == ["completeRun", "completeRun"]
    assert stops(cut_off) == [None, None]
    assert [each.run_id for each in cut_off] == [each.run_id for each in whole]
