"""What every store promises, asked of each of them."""

from collections.abc import Callable
from dataclasses import replace

import anyio
import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import JobStatus
from perstack.core.machine import blank_checkpoint, fold
from perstack.core.messages import Usage
from perstack.errors import JobStateError, NotFoundError, StoreError
from perstack.runtime.ports import Store, TaskRecord
from tests.store.backend import Backend
from tests.store.sample_job import EXPERT, RunStory, status_of, write

pytestmark = pytest.mark.anyio


async def test_a_job_is_loaded_as_it_was_written(store: Store) -> None:
    run = RunStory()
    events = (run.start(), *run.step(), *run.step(), run.generate(), run.complete())
    await write(store, *events)

    record = await store.load("job")

    assert record.runs == {"run": events}


async def test_folding_what_was_loaded_rebuilds_the_checkpoint(store: Store) -> None:
    run = RunStory()
    events = (run.start(), *run.step(), run.generate(), run.complete())
    await write(store, *events)

    loaded = (await store.load("job")).runs["run"]

    start = blank_checkpoint(events[0].stamp, EXPERT)
    assert fold(start, loaded) == fold(start, events)


async def test_a_job_is_summarised_from_its_events(store: Store) -> None:
    run = RunStory(at=1000)
    await write(store, run.start("q" * 500), *run.step(), run.generate(), run.complete())

    job = (await store.load("job")).job

    assert job.query == "q" * 200
    assert (job.coordinator_expert_key, job.total_steps, job.run_count) == ("researcher", 2, 1)
    assert job.usage == Usage(input_tokens=180, output_tokens=20, total_tokens=200)
    assert (job.status, job.started_at, job.finished_at) == ("completed", 1001, run.now)


async def test_events_are_read_on_from_a_position(store: Store) -> None:
    run = RunStory()
    lease = await write(store, run.start())
    first, begun = await store.events("job")
    step = run.step()
    await store.append(step, lease)

    last, followed = await store.events("job", after=first)

    assert (len(begun), followed) == (1, step)
    assert last > first
    assert await store.events("job", after=last) == (last, ())


async def test_events_of_all_runs_come_in_the_order_of_writing(store: Store) -> None:
    parent = RunStory()
    child = parent.delegate("child")
    other = RunStory("other", "other-run")
    await write(store, other.start())
    written: list[ev.RunEvent] = [
        parent.start(),
        child.start(delegated_by=parent.as_delegator()),
        parent.generate(),
        child.generate(),
    ]
    lease = await store.acquire("job")
    for event in written:
        await store.append([event], lease)

    _, events = await store.events("job")
    record = await store.load("job")

    assert events == tuple(written)
    assert list(record.runs) == ["run", "child"]


@pytest.mark.parametrize("call_id", ["c1", "c'\"1", "appel-é", "x" * 64])
async def test_a_shortened_result_is_found_with_its_whole_text(store: Store, call_id: str) -> None:
    run = RunStory()
    child = run.delegate("child")
    events = (run.start(), child.start(delegated_by=run.as_delegator()), run.answer(call_id, "ok"))
    shortened = run.answer(call_id, "ends", whole_text="w" * 50_000 + "\ud800")
    of_child = child.answer(call_id, "ends", whole_text="ab")
    other = run.answer("c2", call_id, whole_text=f'{{"id":"{call_id}"}}')
    await write(store, *events, shortened, of_child, other)
    await write(store, RunStory("other", "other-run").start())

    assert await store.shortened_results("job", call_id) == (shortened, of_child)
    assert await store.shortened_results("job", "c3") == ()
    assert await store.shortened_results("other", call_id) == ()
    assert await store.shortened_results("nowhere", call_id) == ()


async def test_an_unknown_job_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        await store.load("nowhere")
    with pytest.raises(NotFoundError, match="nowhere"):
        await store.events("nowhere")


async def test_a_job_that_was_only_acquired_is_not_there_yet(store: Store) -> None:
    await store.acquire("job")

    assert await store.jobs() == ()
    with pytest.raises(NotFoundError):
        await store.load("job")


async def test_jobs_are_listed_newest_first_in_pages(store: Store) -> None:
    for number, at in enumerate((1000, 3000, 2000, 3000)):
        await write(store, RunStory(f"job-{number}", f"run-{number}", at=at).start())

    assert [job.id for job in await store.jobs()] == ["job-3", "job-1", "job-2", "job-0"]
    assert [job.id for job in await store.jobs(limit=2, offset=1)] == ["job-1", "job-2"]
    running = await store.jobs(status="running", limit=2, offset=1)
    assert [job.id for job in running] == ["job-1", "job-2"]


async def test_jobs_are_filtered_by_status_and_expert(store: Store) -> None:
    done, open_run = RunStory("done", "run-1"), RunStory("open", "run-2", expert="writer")
    await write(store, done.start(), done.generate(), done.complete())
    await write(store, open_run.start())

    assert [job.id for job in await store.jobs(status="completed")] == ["done"]
    assert [job.id for job in await store.jobs(status="running")] == ["open"]
    assert [job.id for job in await store.jobs(expert_key="writer")] == ["open"]
    assert await store.jobs(status="completed", expert_key="writer") == ()


@pytest.mark.parametrize(
    ("stop", "status", "is_finished"),
    [
        (RunStory.complete, "completed", True),
        (RunStory.fail, "stoppedByError", True),
        (RunStory.cancel, "stoppedByCancellation", True),
        (RunStory.exhaust, "stoppedByMaxSteps", True),
        (RunStory.ask, "stoppedByInteractiveTool", False),
        (RunStory.wait, "running", False),
    ],
)
async def test_the_status_of_a_job_is_that_of_its_root_run(
    store: Store, stop: Callable[[RunStory], ev.RunEvent], status: JobStatus, is_finished: bool
) -> None:
    run = RunStory()
    lease = await write(store, run.start(), run.generate())
    assert await status_of(store) == "running"

    await store.append([stop(run)], lease)

    job = (await store.load("job")).job
    assert (job.status, job.finished_at) == (status, run.now if is_finished else None)


async def test_a_job_that_is_resumed_runs_again(store: Store) -> None:
    run = RunStory()
    lease = await write(store, run.start(), run.cancel())

    await store.append([run.resume()], lease)

    job = (await store.load("job")).job
    assert (job.status, job.finished_at, job.run_count) == ("running", None, 1)


async def test_a_delegate_that_stops_does_not_stop_the_job(store: Store) -> None:
    parent = RunStory()
    child = parent.delegate("child")
    await write(
        store,
        parent.start(),
        child.start(delegated_by=parent.as_delegator()),
        *child.step(),
        child.fail(),
    )

    job = (await store.load("job")).job

    assert (job.status, job.run_count, job.usage.total_tokens) == ("running", 2, 200)


async def test_the_newest_root_run_speaks_for_the_job(store: Store) -> None:
    first, second = RunStory(), RunStory(run_id="again")
    lease = await write(store, first.start(), first.generate(), first.complete())

    await store.append([second.start("And then?", continued_from=f"run-{first.sequence}")], lease)

    job = (await store.load("job")).job
    assert (job.status, job.query, job.run_count) == ("running", "Find it.", 2)


async def test_a_branch_of_a_root_run_speaks_for_the_job(store: Store) -> None:
    first, second = RunStory(), RunStory(run_id="branch")
    lease = await write(store, first.start(), first.generate(), first.complete())
    await store.append([second.branch("run-2")], lease)
    assert await status_of(store) == "running"

    await store.append([second.fail()], lease)

    assert await status_of(store) == "stoppedByError"


async def test_an_event_is_not_written_twice(store: Store) -> None:
    run = RunStory()
    start = run.start()
    lease = await write(store, start)

    with pytest.raises(StoreError, match="run-1 is already stored"):
        await store.append([start], lease)

    assert (await store.load("job")).runs == {"run": (start,)}


async def test_a_refused_event_takes_its_whole_append_with_it(store: Store) -> None:
    run = RunStory()
    start = run.start()
    lease = await write(store, start)
    follower = run.generate()
    run.sequence += 1
    too_early = run.cancel()

    with pytest.raises(StoreError, match="run-4 comes too early"):
        await store.append([follower, too_early], lease)

    record = await store.load("job")
    assert (record.runs, record.job.status) == ({"run": (start,)}, "running")


async def test_neither_a_job_nor_a_run_begins_in_the_middle(store: Store) -> None:
    run, stray = RunStory(), RunStory(run_id="stray")
    lease = await store.acquire("job")

    with pytest.raises(StoreError, match="no startRun"):
        await store.append([run.generate()], lease)
    await store.append([RunStory().start()], lease)
    with pytest.raises(StoreError, match="not begun"):
        await store.append([stray.generate()], lease)
    with pytest.raises(StoreError, match="branches from a run"):
        await store.append([RunStory(run_id="stray").branch("nowhere-1")], lease)


async def test_an_event_of_another_job_is_a_bug_of_the_caller(store: Store) -> None:
    lease = await store.acquire("job")

    with pytest.raises(ValueError, match="not of job job"):
        await store.append([RunStory("other").start()], lease)


async def test_an_empty_append_writes_nothing(store: Store) -> None:
    lease = await store.acquire("job")

    await store.append([], lease)

    assert await store.jobs() == ()


async def test_many_jobs_append_at_the_same_time(store: Store) -> None:
    async def live(number: int) -> None:
        run = RunStory(f"job-{number}", f"run-{number}")
        lease = await write(store, run.start())
        for _ in range(3):
            await store.append(run.step(), lease)
        await store.append([run.generate(), run.complete()], lease)
        await store.release(lease)

    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(live, number)

    jobs = await store.jobs(status="completed")
    assert {(job.total_steps, job.usage.total_tokens) for job in jobs} == {(4, 400)}
    assert len(jobs) == 40
    for number in range(40):
        (events,) = (await store.load(f"job-{number}")).runs.values()
        assert [event.stamp.sequence for event in events] == list(range(1, 25))


async def test_delegates_of_one_job_append_side_by_side(store: Store) -> None:
    parent = RunStory()
    lease = await write(store, parent.start())

    async def work(child: RunStory) -> None:
        await store.append([child.start(delegated_by=parent.as_delegator())], lease)
        for _ in range(5):
            await store.append(child.step(), lease)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(work, parent.delegate(f"child-{number}"))

    record = await store.load("job")
    assert record.job.usage.total_tokens == 8 * 5 * 100
    assert {len(events) for run_id, events in record.runs.items() if run_id != "run"} == {36}


TASK = TaskRecord(task_id="job.1", job_id="job", activation=1, created_at=7)
RESULT = {"message": "late \u00fc \udcff", "content": {"structured": [1, None, True]}}


async def test_a_task_is_stored_open_and_its_id_is_never_used_again(store: Store) -> None:
    assert await store.task("job.1") is None
    assert await store.create_task(TASK)
    assert not await store.create_task(replace(TASK, job_id="other"))
    assert await store.task("job.1") == TASK
    await store.settle_task("job.1", "completed", {})
    assert not await store.create_task(TASK)


async def test_the_first_final_status_of_a_task_is_the_last(store: Store) -> None:
    await store.create_task(TASK)
    settled = await store.settle_task("job.1", "completed", RESULT)
    again = await store.settle_task("job.1", "failed", {"error": "late"})
    assert settled == again == replace(TASK, status="completed", payload=RESULT)
    assert await store.task("job.1") == settled


async def test_a_task_that_does_not_exist_is_not_settled(store: Store) -> None:
    assert await store.settle_task("job.1", "completed", RESULT) is None
    assert await store.task("job.1") is None


async def test_a_task_is_seen_by_other_owners_of_the_store(backend: Backend) -> None:
    one, two = await backend.open_as("one"), await backend.open_as("two")
    await one.create_task(TASK)
    await two.settle_task("job.1", "cancelled", {})
    assert await one.task("job.1") == replace(TASK, status="cancelled", payload={})


async def test_a_summary_is_the_job_without_its_events(store: Store) -> None:
    run = RunStory()
    await write(store, run.start("look"), *run.step())
    assert await store.summary("job") == (await store.load("job")).job
    with pytest.raises(NotFoundError):
        await store.summary("nosuchjob")


async def test_a_request_stays_until_its_first_event_is_durable(store: Store) -> None:
    lease = await store.acquire("job", {"query": "Go"})
    assert await store.request("job") == {"query": "Go"}
    assert await store.orphans(0) == ()

    await store.release(lease, keep_request=True)
    assert await store.request("job") == {"query": "Go"}
    assert [orphan.job_id for orphan in await store.orphans(0)] == ["job"]

    lease = await store.acquire("job")
    await store.append([RunStory().start()], lease)
    assert await store.request("job") is None


async def test_a_released_job_has_no_request_unless_it_is_kept(store: Store) -> None:
    await store.submit_request("job", {"query": "Go"})
    lease = await store.acquire("job")
    await store.release(replace(lease, fence=lease.fence + 1))
    assert await store.request("job") == {"query": "Go"}
    await store.release(lease)
    assert await store.request("job") is None
    assert await store.orphans(0) == ()


async def test_a_job_has_one_accepted_request_at_most(store: Store) -> None:
    await store.submit_request("job", {"query": "one"})
    await store.submit_request("job", {"query": "one"})
    with pytest.raises(JobStateError, match="waits to be driven"):
        await store.submit_request("job", {"query": "two"})
    with pytest.raises(JobStateError, match="waits to be driven"):
        await store.acquire("job", {"query": "two"})
    lease = await store.acquire("job", {"query": "one"})
    with pytest.raises(JobStateError, match="being driven"):
        await store.submit_request("job", {"query": "two"})
    await store.release(lease)


async def test_an_interrupted_job_with_an_accepted_request_is_one_orphan(backend: Backend) -> None:
    await write(await backend.open_as("gone"), RunStory().start())
    backend.dead.add("gone")
    other = await backend.open_as("us")
    await other.submit_request("job", {"query": "more"})
    await other.submit_request("new", {"query": "Go"})
    assert sorted(orphan.job_id for orphan in await other.orphans(0)) == ["job", "new"]
    assert await other.orphans(10**15) == ()
