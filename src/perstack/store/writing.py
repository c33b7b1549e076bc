"""The statements behind `append` and the leases. Each function runs inside a transaction."""

import json
import sqlite3
from collections.abc import Collection, Sequence

from perstack.core.checkpoint import Job
from perstack.core.events import RunEvent
from perstack.runtime.ports import Lease
from perstack.store.ownership import Holding, Ownership
from perstack.store.projection import Ledger, RunTail, enter, named_runs
from perstack.store.reading import JOB_COLUMNS, job_of
from perstack.store.rows import Content

SAVE_JOB = """
    INSERT INTO jobs (id, status, coordinator_expert_key, query, total_steps, usage, run_count,
        started_at, updated_at, finished_at, root_run_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, total_steps = excluded.total_steps,
        usage = excluded.usage, run_count = excluded.run_count, updated_at = excluded.updated_at,
        finished_at = excluded.finished_at, root_run_id = excluded.root_run_id
"""
SAVE_RUN = """
    INSERT INTO runs (id, job, expert_key, is_root)
    SELECT ?, ref, ?, ? FROM jobs WHERE id = ?
"""
SAVE_EVENT = """
    INSERT INTO events (run, sequence, type, step_number, timestamp, body)
    VALUES (?, ?, ?, ?, ?, ?)
"""
# A new owner is not meant by what was asked of the one before.
SAVE_HOLDING = """
    INSERT INTO leases (job_id, owner, lease_until, fence, takeovers) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (job_id) DO UPDATE SET owner = excluded.owner,
        lease_until = excluded.lease_until, fence = excluded.fence, takeovers = excluded.takeovers,
        stop_reason = CASE WHEN fence = excluded.fence THEN stop_reason END
"""
TAIL = """
    SELECT runs.ref, expert_key, is_root,
        (SELECT coalesce(max(sequence), 0) FROM events WHERE run = runs.ref)
    FROM runs JOIN jobs ON jobs.ref = runs.job
    WHERE runs.id = ? AND jobs.id = ?
"""


def append(
    connection: sqlite3.Connection,
    ownership: Ownership,
    lease: Lease,
    events: Sequence[tuple[RunEvent, Content]],
) -> None:
    """Write events with the blobs they refer to, and bring the job's summary up to date."""
    ownership.check(lease, holding(connection, lease.job_id))
    ledger, refs = _ledger(connection, lease.job_id, named_runs(event for event, _ in events))
    for event, _ in events:
        ledger = enter(ledger, event)
    if ledger is None:
        return
    _save_job(connection, ledger)
    for run_id, tail in ledger.tails.items():
        if run_id not in refs:
            row = (run_id, tail.expert_key, tail.is_root, lease.job_id)
            refs[run_id] = int(connection.execute(SAVE_RUN, row).lastrowid or 0)
    connection.executemany(SAVE_EVENT, [_event_row(refs, event, kept) for event, kept in events])
    connection.executemany(
        "INSERT OR IGNORE INTO blobs (sha256, bytes) VALUES (?, ?)",
        [blob for _, kept in events for blob in kept.blobs.items()],
    )


def acquire(connection: sqlite3.Connection, ownership: Ownership, job_id: str) -> Lease:
    """Become the owner."""
    held = ownership.take(job_id, holding(connection, job_id))
    _hold(connection, job_id, held)
    return Lease(job_id, ownership.owner, held.fence)


def renew(connection: sqlite3.Connection, ownership: Ownership, lease: Lease) -> None:
    """Stay the owner."""
    held = ownership.check(lease, holding(connection, lease.job_id))
    _hold(connection, lease.job_id, ownership.keep(held))


def release(connection: sqlite3.Connection, lease: Lease) -> None:
    """Be the owner no longer. The row stays, so that the fence goes on growing."""
    connection.execute(
        "UPDATE leases SET owner = NULL, lease_until = 0, stop_reason = NULL"
        " WHERE job_id = ? AND owner = ? AND fence = ?",
        (lease.job_id, lease.owner, lease.fence),
    )


def ask_to_stop(
    connection: sqlite3.Connection, ownership: Ownership, job_id: str, reason: str
) -> bool:
    """Leave word for the owner, if there is one."""
    if not ownership.is_driven(holding(connection, job_id)):
        return False
    connection.execute("UPDATE leases SET stop_reason = ? WHERE job_id = ?", (reason, job_id))
    return True


def holding(connection: sqlite3.Connection, job_id: str) -> Holding | None:
    """What is on record about the driver of a job."""
    row = connection.execute(
        "SELECT owner, lease_until, fence, takeovers FROM leases WHERE job_id = ?", (job_id,)
    ).fetchone()
    return None if row is None else Holding(*row)


def _hold(connection: sqlite3.Connection, job_id: str, held: Holding) -> None:
    row = (job_id, held.owner, held.lease_until, held.fence, held.takeovers)
    connection.execute(SAVE_HOLDING, row)


def _ledger(
    connection: sqlite3.Connection, job_id: str, run_ids: Collection[str]
) -> tuple[Ledger | None, dict[str, int]]:
    row = connection.execute(
        f"SELECT {JOB_COLUMNS}, jobs.root_run_id FROM jobs WHERE id = ?",  # noqa: S608 - the columns are a constant
        (job_id,),
    ).fetchone()
    if row is None:
        return None, {}
    refs: dict[str, int] = {}
    tails: dict[str, RunTail] = {}
    for run_id in run_ids:
        found = connection.execute(TAIL, (run_id, job_id)).fetchone()
        if found is not None:
            ref, expert_key, is_root, last = found
            refs[run_id], tails[run_id] = ref, RunTail(expert_key, bool(is_root), last)
    return Ledger(job_of(row[:-1]), row[-1], tails), refs


def _save_job(connection: sqlite3.Connection, ledger: Ledger) -> None:
    job: Job = ledger.job
    connection.execute(
        SAVE_JOB,
        (
            job.id,
            job.status,
            job.coordinator_expert_key,
            job.query,
            job.total_steps,
            json.dumps(job.usage.model_dump(by_alias=True), separators=(",", ":")),
            job.run_count,
            job.started_at,
            job.updated_at,
            job.finished_at,
            ledger.root_run_id,
        ),
    )


def _event_row(
    refs: dict[str, int], event: RunEvent, content: Content
) -> tuple[int, int, str, int, int, str | None]:
    stamp = event.stamp
    return (
        refs[stamp.run_id],
        stamp.sequence,
        event.type,
        stamp.step_number,
        stamp.timestamp,
        content.body,
    )
