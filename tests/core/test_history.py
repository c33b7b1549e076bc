"""All events of a job with their checkpoints, made in one pass, are those of each of its runs."""

from pathlib import Path

import pytest

from perstack.core.history import JobHistory, checkpoint_at, newest_checkpoints
from perstack.engine import Engine
from perstack.runtime.start_plan import JobRequest
from tests.engines import engine_on
from tests.fakes import FakeModel, call, calls, done

pytestmark = pytest.mark.anyio


async def finished(engine: Engine, request: JobRequest) -> str:
    job = await engine.start(request)
    await job.wait()
    return job.job_id


async def test_the_trail_has_delegates_follow_ups_and_branches(tmp_path: Path) -> None:
    model = FakeModel(
        {
            "reviewer": [
                calls(call("file", "c1", query="a"), call("file", "c2", query="b")),
                done("one"),
                done("two"),
                done("three"),
            ],
            "@reviewer/file": [done("fine"), done("fine")],
        }
    )
    async with engine_on(tmp_path, model) as engine:
        job_id = await finished(engine, JobRequest(expert_key="reviewer", query="look"))
        first = (await engine.history(job_id))[-1][1]
        await finished(engine, JobRequest(job_id=job_id, query="and then?"))
        await finished(engine, JobRequest(job_id=job_id, query="or else?", checkpoint_id=first.id))
        trail = await engine.history(job_id)
        runs = (await engine.record(job_id)).runs
    assert all(checkpoint_at(runs, event.id) == checkpoint for event, checkpoint in trail)
    assert len(trail) == sum(len(events) for events in runs.values())
    newest = {checkpoint.run_id: checkpoint for _, checkpoint in trail}
    assert newest == newest_checkpoints(runs)
    assert len(newest) == 5


def test_a_job_without_events_has_no_trail() -> None:
    assert JobHistory().recorded_events == []
