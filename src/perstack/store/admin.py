"""How old jobs leave a store, while others may be writing to it."""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from perstack.core.checkpoint import Job
from perstack.store.connection import is_busy
from perstack.store.event_codec import BLOB_KEY
from perstack.store.leases import LeasePolicy, LeaseRecord
from perstack.store.statements_read import request as read_request
from perstack.store.statements_write import load_lease

MAX_JOBS_PER_COMMIT = 20
"""Few enough that other writers do not wait for long."""

VACUUM_LOCK_TIMEOUT_SECONDS = 2.0
"""Seconds to wait for others to finish what they write."""

BLOB_REFERENCE = re.compile(rf'"{re.escape(BLOB_KEY)}":"([0-9a-f]{{64}})"')
# Arguments of tools may look like references too; then a blob stays longer than it must.
SELECT_REFERENCING_EVENTS = f"""
    SELECT position, body FROM events WHERE position > ? AND instr(body, '"{BLOB_KEY}"') > 0
"""  # noqa: S608 - the mark is a constant
SELECT_EVENT_BYTES = """
    SELECT coalesce(sum(length(CAST(body AS BLOB))), 0) FROM jobs
    JOIN runs ON runs.job = jobs.ref JOIN events ON events.run = runs.ref WHERE jobs.id = ?
"""
IN_JOB = "run IN (SELECT ref FROM runs WHERE job = ?)"


@dataclass(frozen=True, slots=True)
class BlobReferences:
    """The blobs that events refer to, up to a position."""

    position: int
    digests: frozenset[str]


def remove_jobs(
    connection: sqlite3.Connection, lease_policy: LeasePolicy, jobs: Iterable[Job]
) -> list[str]:
    """Remove jobs with their runs and events, and return the ids of those removed.

    A job with a driver or an accepted request, or that has changed since it was listed, stays.
    """
    return [job.id for job in jobs if _remove_job(connection, lease_policy, job)]


def _remove_job(connection: sqlite3.Connection, lease_policy: LeasePolicy, job: Job) -> bool:
    row = connection.execute("SELECT ref, updated_at FROM jobs WHERE id = ?", (job.id,)).fetchone()
    if row is None or row[1] != job.updated_at:
        return False
    is_driven = lease_policy.is_driven(load_lease(connection, job.id))
    if is_driven or read_request(connection, job.id) is not None:
        return False
    ref = (row[0],)
    connection.execute(f"DELETE FROM events WHERE {IN_JOB}", ref)  # noqa: S608 - a constant
    connection.execute("DELETE FROM runs WHERE job = ?", ref)
    connection.execute("DELETE FROM jobs WHERE ref = ?", ref)
    connection.execute("DELETE FROM tasks WHERE job_id = ?", (job.id,))
    # A former holder finds no record and so cannot write.
    connection.execute("DELETE FROM leases WHERE job_id = ?", (job.id,))
    return True


def find_references(
    connection: sqlite3.Connection, after: BlobReferences | None = None
) -> BlobReferences:
    """The blobs in use, those of `after` included; only later events are looked at then."""
    after = after or BlobReferences(0, frozenset())
    (last,) = connection.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()
    rows: Iterable[tuple[int, str]] = connection.execute(
        SELECT_REFERENCING_EVENTS, (after.position,)
    )
    digests = {digest for _, body in rows for digest in BLOB_REFERENCE.findall(body)}
    return BlobReferences(int(last), after.digests | digests)


def remove_blobs(connection: sqlite3.Connection, used: BlobReferences) -> int:
    """Remove the blobs that no event refers to, and return how many.

    `used` was found before this transaction began; what was written since is looked at here.
    """
    used = find_references(connection, used)
    stored: Iterable[tuple[str]] = connection.execute("SELECT sha256 FROM blobs")
    unused = [(digest,) for (digest,) in stored if digest not in used.digests]
    connection.executemany("DELETE FROM blobs WHERE sha256 = ?", unused)
    return len(unused)


def event_bytes(connection: sqlite3.Connection, jobs: Iterable[Job]) -> int:
    """About how many bytes of the store the events of these jobs are."""
    sizes = (connection.execute(SELECT_EVENT_BYTES, (job.id,)).fetchone()[0] for job in jobs)
    return sum(int(weight) for weight in sizes)


def vacuum(path: Path, lease_policy: LeasePolicy) -> tuple[int, int] | None:
    """Give the space of what was removed back to the disk.

    It is not tried while jobs are driven, because they would have to wait: what is free in the file
    is used by the events to come.

    Returns:
        The bytes of the store before and afterwards; `None` if it was not done.
    """
    with closing(
        sqlite3.connect(path, timeout=VACUUM_LOCK_TIMEOUT_SECONDS, isolation_level=None)
    ) as connection:
        leases = connection.execute("SELECT owner, lease_until, fence FROM leases")
        if any(lease_policy.is_driven(LeaseRecord(*row)) for row in leases):
            return None
        before = _database_bytes(connection)
        try:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            if is_busy(error):
                return None
            raise
        return before, _database_bytes(connection)


def _database_bytes(connection: sqlite3.Connection) -> int:
    (page_count,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    return int(page_count) * int(page_size)


def job_batches(jobs: Sequence[Job]) -> Iterable[Sequence[Job]]:
    """The jobs in portions for one transaction each."""
    return (
        jobs[start : start + MAX_JOBS_PER_COMMIT]
        for start in range(0, len(jobs), MAX_JOBS_PER_COMMIT)
    )
