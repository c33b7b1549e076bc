"""A store with many jobs: to list the newest takes no longer than in a small one."""

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from perstack.store.connection import open_connections
from perstack.store.leases import LeasePolicy
from perstack.store.statements_read import job_of_run, jobs, summary
from tests.fakes import ManualClock

MANY = 20_000
FILL = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
"""
JOBS = """
INSERT INTO jobs (id, status, coordinator_expert_key, query, total_steps, usage, run_count,
    started_at, updated_at, root_run_id)
SELECT 'job' || n, 'completed', 'a', 'q', 1, '{}', 1, n % 1000, n, 'run' || n FROM numbers
"""
RUNS = """
INSERT INTO runs (id, job, expert_key, is_root) SELECT root_run_id, ref, 'a', 1 FROM jobs
"""
LEASES = "INSERT INTO leases (job_id, lease_until, fence) SELECT id, 0, 1 FROM jobs"
OWNERSHIP = LeasePolicy("us", ManualClock(1_000_000, is_automatic=False), lambda _: True)


@contextmanager
def filled(path: Path, count: int) -> Generator[sqlite3.Connection]:
    """A store with so many jobs."""
    writing, reading = open_connections(path)
    with closing(writing), closing(reading):
        writing.execute("BEGIN")
        writing.execute(FILL + JOBS, (count,))
        writing.execute(RUNS)
        writing.execute(LEASES)
        writing.execute("COMMIT")
        yield reading


def effort(connection: sqlite3.Connection, query: Callable[[sqlite3.Connection], object]) -> int:
    """How many instructions of SQLite a query takes, to the nearest ten."""
    tens = 0

    def count() -> int:
        nonlocal tens
        tens += 1
        return 0

    connection.set_progress_handler(count, 10)
    query(connection)
    return tens * 10


def listed(connection: sqlite3.Connection) -> object:
    found = jobs(connection, OWNERSHIP, status=None, expert_key=None, limit=100, offset=0)
    assert len(found) == 100
    return found


@pytest.mark.parametrize(
    "query",
    [
        listed,
        partial(summary, lease_policy=OWNERSHIP, job_id="job99"),
        partial(job_of_run, run_id="run99"),
    ],
    ids=["list", "summary", "run"],
)
def test_it_takes_no_more_effort_than_in_a_small_store(
    tmp_path: Path, query: Callable[[sqlite3.Connection], object]
) -> None:
    with (
        filled(tmp_path / "small.db", 200) as small,
        filled(tmp_path / "large.db", MANY) as large,
    ):
        assert effort(large, query) <= effort(small, query) * 1.5 + 50
