"""What is counted of many jobs: one pass over the stored events, one job at a time."""

import math
from collections.abc import AsyncGenerator
from contextlib import closing
from pathlib import Path

import pytest

from perstack.analysis.statistics import GroupedStats, JobFacts, quantile
from perstack.core import events as ev
from perstack.core.messages import TextPart, ToolCallPart, ToolResult
from perstack.store.connection import open_connections
from perstack.store.sqlite import SqliteStore, open_sqlite_store
from perstack.store.stats_query import SELECT_FACTS
from tests.store.sample_job import USAGE, RunStory, write

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[SqliteStore]:
    async with open_sqlite_store(tmp_path / "store.db") as opened:
        yield opened


async def written(store: SqliteStore, *events: ev.RunEvent) -> None:
    """Store the events of one job, and give it back."""
    await store.release(await write(store, *events))


async def facts_of(store: SqliteStore, since_ms: int = 0) -> list[JobFacts]:
    seen: list[JobFacts] = []
    await store.scan_jobs(since_ms, seen.append)
    return seen


async def test_a_run_is_counted_with_its_tokens_tools_and_durations(store: SqliteStore) -> None:
    run = RunStory()
    await written(store, run.start(), *run.step(), *run.step(), run.generate(), run.complete())
    (job,) = await facts_of(store)
    (facts,) = job.runs
    assert (job.job.id, job.job.status) == ("job", "completed")
    assert (facts.expert_key, facts.model, facts.status) == ("researcher", "play", "completed")
    assert (facts.steps, facts.usage) == (3, USAGE + USAGE + USAGE)
    assert facts.tool_calls == {("base", "readTextFile"): 2}
    assert not facts.tool_failures
    assert (list(facts.generation_ms), list(facts.tool_ms)) == ([1, 1, 1], [1, 1])


async def test_failures_and_repeated_generations_are_counted_by_name(store: SqliteStore) -> None:
    run = RunStory()
    limited = ev.RunError(name="RateLimitError", message="slow down")
    events: list[ev.RunEvent] = [run.start()]
    for error in (limited, limited, None):
        events += [
            run.generate(),
            ev.Retry(stamp=run.stamp(), reason="again", error=error, usage=USAGE),
        ]
    await written(store, *events, run.generate(), run.fail())
    ((facts,),) = [job.runs for job in await facts_of(store)]
    assert facts.retries == {"RateLimitError": 2, "UnusableReply": 1}
    assert facts.errors == {"AuthenticationError": 1}
    assert facts.usage == USAGE + USAGE + USAGE + USAGE


async def test_a_refused_call_is_a_failure_of_its_tool(store: SqliteStore) -> None:
    run = RunStory()
    begun = run.start()
    *before, result, resolved, finished, following = run.step()
    assert isinstance(result, ev.RecordToolResult)
    refused = ToolResult(
        id=result.tool_result.id,
        skill_name="base",
        tool_name="readTextFile",
        result=(TextPart(text="no"),),
        is_error=True,
    )
    failed = result.model_copy(update={"tool_result": refused})
    await written(store, begun, *before, failed, resolved, finished, following, run.cancel())
    ((facts,),) = [job.runs for job in await facts_of(store)]
    assert facts.tool_failures == facts.tool_calls == {("base", "readTextFile"): 1}


async def test_content_that_only_python_takes_for_json_is_counted_too(store: SqliteStore) -> None:
    odd = "half \ud800, \x00 and ✓"
    run = RunStory()
    begun = run.start()
    generation, called, started, result, *rest = run.step(said=odd, found=odd)
    assert isinstance(called, ev.CallTools)
    assert isinstance(result, ev.RecordToolResult)
    part = ToolCallPart(tool_call_id="call-1", tool_name=odd, args={"odd": [odd, math.nan]})
    said = called.new_message.model_copy(update={"contents": (part,)})
    named = result.tool_result.model_copy(update={"tool_name": odd})
    await written(
        store,
        *(begun, generation, called.model_copy(update={"new_message": said}), started),
        *(result.model_copy(update={"tool_result": named}), *rest, run.cancel()),
    )
    ((facts,),) = [job.runs for job in await facts_of(store)]
    assert facts.usage == USAGE
    assert facts.tool_calls == {("base", odd): 1}


async def test_nothing_is_sorted_or_kept_on_the_way(tmp_path: Path) -> None:
    writing, reading = open_connections(tmp_path / "store.db")
    with closing(writing), closing(reading):
        plan = [row[3] for row in reading.execute(f"EXPLAIN QUERY PLAN {SELECT_FACTS}", (0,))]
    assert not any("TEMP B-TREE" in line for line in plan), plan


async def test_what_a_stop_cut_off_has_no_duration(store: SqliteStore) -> None:
    run = RunStory()
    cut_off = [run.start(), run.generate(), run.cancel()]
    run.now += 60_000
    await written(store, *cut_off, run.resume(), run.complete())
    ((facts,),) = [job.runs for job in await facts_of(store)]
    assert not facts.generation_ms


async def test_a_generation_that_another_process_had_begun_has_no_duration(
    store: SqliteStore,
) -> None:
    run = RunStory()
    begun = [run.start(), run.generate()]
    run.now += 60_000
    ended = run.complete().model_copy(update={"activation_id": "second"})
    await written(store, *begun, ended)
    ((facts,),) = [job.runs for job in await facts_of(store)]
    assert (facts.status, list(facts.generation_ms)) == ("completed", [])


async def test_a_missing_key_is_no_generation_that_took_no_time(store: SqliteStore) -> None:
    run = RunStory()
    begun = [run.start(), run.generate()]
    error = ev.RunError(name="ConfigError", message="no key")
    await written(store, *begun, ev.StopRunByError(stamp=run.stamp(), error=error))
    ((facts,),) = [job.runs for job in await facts_of(store)]
    assert (dict(facts.errors), list(facts.generation_ms)) == ({"ConfigError": 1}, [])


async def test_delegates_and_branches_are_runs_of_their_job(store: SqliteStore) -> None:
    run = RunStory()
    child = run.delegate("child")
    start = run.start()
    begun = (start, child.start(delegated_by=run.as_delegator()), child.complete(), run.complete())
    branch = RunStory(run_id="branch")
    await written(store, *begun, branch.branch(start.id), branch.cancel())
    ((root, delegate, other),) = [job.runs for job in await facts_of(store)]
    assert (root.status, root.model) == ("completed", "play")
    assert (delegate.expert_key, delegate.usage) == ("@researcher/reader", USAGE)
    assert (other.status, other.model) == ("stoppedByCancellation", "play")


async def test_older_jobs_are_left_out_and_one_that_nobody_drives_is_interrupted(
    store: SqliteStore,
) -> None:
    old, new = RunStory("old", "r1", at=1000), RunStory("new", "r2", at=5000)
    await written(store, old.start(), old.complete())
    await written(store, new.start())
    assert [(job.job.id, job.job.status) for job in await facts_of(store, 4000)] == [
        ("new", "interrupted")
    ]


async def test_a_survey_groups_runs_by_expert_model_and_day(store: SqliteStore) -> None:
    run = RunStory(at=10_000)
    child = run.delegate("child")
    first = (run.start(), child.start(delegated_by=run.as_delegator()), child.complete())
    await written(store, *first, run.complete())
    later = RunStory("other", "r2", at=90_000)
    await written(store, later.start(), later.generate(), later.fail())
    survey = GroupedStats(lambda ms: "late" if ms > 50_000 else "early")
    await store.scan_jobs(0, survey.add)
    experts, days = survey.groups["expert"], survey.groups["day"]
    assert survey.total.jobs == {"completed": 1, "stoppedByError": 1}
    assert survey.total.runs.total() == 3
    assert (experts["researcher"].jobs.total(), experts["researcher"].runs.total()) == (2, 2)
    assert not experts["@researcher/reader"].jobs
    assert experts["@researcher/reader"].usage == USAGE
    assert {day: figures.runs.total() for day, figures in days.items()} == {"early": 2, "late": 1}
    assert survey.groups["model"]["play"].usage == USAGE + USAGE + USAGE
    assert survey.total.errors == days["late"].errors == {"AuthenticationError": 1}


async def test_a_run_is_found_by_its_id_and_a_job_has_a_summary(store: SqliteStore) -> None:
    run = RunStory()
    await written(store, run.start(), run.complete())
    assert await store.job_of_run("run") == "job"
    assert await store.job_of_run("job") is None
    assert (await store.summary("job")).status == "completed"


@pytest.mark.parametrize(
    ("share", "found"), [(0.5, 2), (0.95, 4), (0.75, 3), (0.0, 1), (1.0, 4), (0.51, 3)]
)
def test_a_quantile_is_one_of_the_durations(share: float, found: int) -> None:
    assert quantile([3, 1, 4, 2], share) == found
    assert quantile([], share) is None
