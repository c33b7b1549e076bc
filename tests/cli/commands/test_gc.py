"""`perstack gc`: what goes, what stays, and what is said about it."""

import json
from argparse import ArgumentTypeError
from pathlib import Path

import anyio
import pytest

from perstack.cli.commands.gc import (
    HOUR_MS,
    RetentionRule,
    expired_jobs,
    format_bytes,
    parse_retention_rule,
)
from perstack.core.checkpoint import Job
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.cli.harness import Outcome, Stage, calls, done, says
from tests.store.sample_job import RunStory, write

NOW = 1_000 * HOUR_MS


def job(job_id: str, hours_ago: int) -> Job:
    touched = NOW - hours_ago * HOUR_MS
    return Job(
        id=job_id,
        status="completed",
        coordinator_expert_key="a",
        started_at=0,
        updated_at=touched,
    )


JOBS = (job("three", 3), job("one", 1), job("two", 2), job("hundred", 100))


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["0"], ["one", "two", "three", "hundred"]),
        (["1"], ["two", "three", "hundred"]),
        (["2h"], ["two", "three", "hundred"]),
        (["4d"], ["hundred"]),
        (["1w"], []),
        (["3h", "3"], ["hundred"]),
        (["1", "3h"], ["three", "hundred"]),
        (["9"], []),
    ],
)
def test_each_rule_keeps_what_it_keeps(words: list[str], gone: list[str]) -> None:
    assert [
        job.id for job in expired_jobs(JOBS, list(map(parse_retention_rule, words)), now_ms=NOW)
    ] == gone


def test_a_rule_is_a_number_or_an_age() -> None:
    assert parse_retention_rule("30d") == RetentionRule(milliseconds=30 * 24 * HOUR_MS)
    assert parse_retention_rule("100") == RetentionRule(count=100)
    for wrong in ("", "d", "-1", "3m", "1.5d", "\u0663"):
        with pytest.raises(ArgumentTypeError, match="neither a number nor an age"):
            parse_retention_rule(wrong)


def test_bytes_are_said_for_people() -> None:
    assert [format_bytes(count) for count in (0, 999, 1000, 2_500_000, 3 * 10**9)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
    ]


def collects(here: Stage, *words: str) -> Outcome:
    return here.types("gc", *words, "--workspace", str(here.folder))


def statuses(here: Stage) -> list[str]:
    return sorted(job["status"] for job in json.loads(here.logs("--jobs", "--json").stdout))


def jobs_of_every_kind(here: Stage) -> None:
    """One that completed, one that failed, one that waits, one that nobody drives any more."""
    here.plays(a=[done("well")])
    here.runs("a", "good")
    here.plays(a=[{"error": {"message": "refused", "status": 401}}])
    here.runs("a", "bad")
    here.plays(a=[calls("askUser", question="Which?")])
    here.runs("a", "open")

    async def leave() -> None:
        async with open_sqlite_store(store_path(here.folder), owner="gone") as store:
            await store.release(await write(store, RunStory("left", "left").start()))

    anyio.run(leave)


def test_only_jobs_that_ended_are_removed(here: Stage) -> None:
    jobs_of_every_kind(here)
    out = collects(here, "--keep", "0")
    assert out.code == 0, out.stderr
    assert len(out.stdout.splitlines()) == 2
    assert "removed 2 jobs with about" in out.stderr
    assert "before" in out.stderr
    assert statuses(here) == ["interrupted", "stoppedByInteractiveTool"]


def test_the_others_are_removed_on_request(here: Stage) -> None:
    jobs_of_every_kind(here)
    assert "removed 4 jobs" in collects(here, "--keep", "0", "--all").stderr
    assert statuses(here) == []


def test_a_status_narrows_it_down(here: Stage) -> None:
    jobs_of_every_kind(here)
    assert "removed 1 job " in collects(here, "--keep", "0", "--status", "stoppedByError").stderr
    assert statuses(here) == ["completed", "interrupted", "stoppedByInteractiveTool"]


@pytest.mark.parametrize("status", ["stoppedByMaxSteps", "stoppedByExceededMaxSteps"])
def test_a_status_may_have_the_name_that_checkpoints_have_for_it(here: Stage, status: str) -> None:
    here.plays(a=[calls("todo", newTodos=["one"])])
    here.runs("a", "q", "--max-steps", "1")
    assert "removed 1 job " in collects(here, "--keep", "0", "--status", status).stderr


def test_a_dry_run_removes_nothing(here: Stage) -> None:
    jobs_of_every_kind(here)
    before = here.logs("--jobs").stdout
    out = collects(here, "--keep", "0", "--dry-run")
    assert len(out.stdout.splitlines()) == 2
    assert "would remove 2 jobs with about" in out.stderr
    assert here.logs("--jobs").stdout == before


def test_what_is_young_stays(here: Stage) -> None:
    jobs_of_every_kind(here)
    out = collects(here, "--keep", "1h", "--all")
    # The one that was left has the times of another century.
    assert [line.split()[0] for line in out.stdout.splitlines()] == ["left"]


def test_a_job_can_begin_afterwards(here: Stage) -> None:
    jobs_of_every_kind(here)
    collects(here, "--keep", "0", "--all")
    here.plays(a=[says("again")])
    assert here.runs("a", "go").code == 0
    assert statuses(here) == ["completed"]


def test_without_a_rule_nothing_is_removed(here: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    jobs_of_every_kind(here)
    assert collects(here).code == 2
    assert "--keep" in capsys.readouterr().err
    assert len(statuses(here)) == 4


def test_a_workspace_without_jobs_is_an_error(here: Stage) -> None:
    out = collects(here, "--keep", "0")
    assert (out.code, "No data found" in out.stderr) == (2, True)
    assert not Path(here.folder / "perstack").exists()
