"""The statements behind `append`, the leases and tasks. Each function runs inside a transaction."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any

from perstack.core.checkpoint import Job
from perstack.core.events import RunEvent
from perstack.errors import StoreError, request_pending
from perstack.runtime.ports import Lease, TaskRecord
from perstack.store.event_codec import EncodedEvent
from perstack.store.leases import LeasePolicy, LeaseRecord
from perstack.store.projection import JobProjection, RunHead, apply_events, required_run_ids
from perstack.store.statements_read import JOB_COLUMNS, job_from_columns
from perstack.store.statements_read import request as read_request
from perstack.store.statements_read import task as read_task

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
SAVE_LEASE = """
    INSERT INTO leases (job_id, owner, lease_until, fence, takeovers) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (job_id) DO UPDATE SET owner = excluded.owner,
        lease_until = excluded.lease_until, fence = excluded.fence, takeovers = excluded.takeovers,
        stop_reason = CASE WHEN fence = excluded.fence THEN stop_reason END
"""
SELECT_RUN_HEAD = """
    SELECT runs.ref, expert_key, is_root,
        (SELECT coalesce(max(sequence), 0) FROM events WHERE run = runs.ref)
    FROM runs JOIN jobs ON jobs.ref = runs.job
    WHERE runs.id = ? AND jobs.id = ?
"""


def append(
    connection: sqlite3.Connection,
    lease_policy: LeasePolicy,
    lease: Lease,
    events: Sequence[tuple[RunEvent, EncodedEvent]],
) -> None:
    """Write events with the blobs they refer to, and bring the job's summary up to date."""
    lease_policy.check(lease, load_lease(connection, lease.job_id))
    projection, run_refs = _load_projection(
        connection, lease.job_id, required_run_ids(event for event, _ in events)
    )
    projection = apply_events(projection, [event for event, _ in events])
    if projection is None:
        return
    _save_job(connection, projection)
    for run_id, head in projection.heads.items():
        if run_id not in run_refs:
            row = (run_id, head.expert_key, head.is_root, lease.job_id)
            run_refs[run_id] = _save_run(connection, row)
    connection.executemany(
        SAVE_EVENT, [_event_row(run_refs, event, content) for event, content in events]
    )
    connection.executemany(
        "INSERT OR IGNORE INTO blobs (sha256, bytes) VALUES (?, ?)",
        [blob for _, kept in events for blob in kept.blobs.items()],
    )
    connection.execute("DELETE FROM requests WHERE job_id = ?", (lease.job_id,))


def _save_run(connection: sqlite3.Connection, row: tuple[str, str, bool, str]) -> int:
    try:
        return int(connection.execute(SAVE_RUN, row).lastrowid or 0)
    except sqlite3.IntegrityError as error:
        raise StoreError(
            f"Run {row[0]} exists already, in another job.", hint="Choose another id for the run."
        ) from error


def submit_request(
    connection: sqlite3.Connection, lease_policy: LeasePolicy, job_id: str, request: dict[str, Any]
) -> None:
    """Accept a request for a job without an owner."""
    lease_policy.acquire(job_id, load_lease(connection, job_id))
    pending = read_request(connection, job_id)
    if pending == request:
        return
    if pending is not None:
        raise request_pending(job_id)
    connection.execute(
        "INSERT INTO requests (job_id, request, created_at) VALUES (?, ?, ?)",
        (job_id, json.dumps(request, separators=(",", ":")), lease_policy.clock.now_ms()),
    )


def clock_offset(connection: sqlite3.Connection, boot: str, proposed_ms: int) -> int:
    """The offset of the even clock in this boot of the machine: the first one that is proposed."""
    key = f"clock_offset/{boot}"
    select = "SELECT value FROM meta WHERE key = ?"
    row = connection.execute(select, (key,)).fetchone()
    if row is None:
        connection.execute(
            "INSERT OR IGNORE INTO meta (key, value) VALUES (?, ?)", (key, proposed_ms)
        )
        row = connection.execute(select, (key,)).fetchone()
    return int(row[0])


def acquire(
    connection: sqlite3.Connection,
    lease_policy: LeasePolicy,
    job_id: str,
    request: dict[str, Any] | None,
) -> Lease:
    """Become the owner, and accept a request if there is one."""
    record = lease_policy.acquire(job_id, load_lease(connection, job_id))
    if request is not None:
        submit_request(connection, lease_policy, job_id, request)
    _save_lease(connection, job_id, record)
    return Lease(job_id, lease_policy.owner, record.fence)


def renew(connection: sqlite3.Connection, lease_policy: LeasePolicy, lease: Lease) -> None:
    """Stay the owner."""
    record = lease_policy.check(lease, load_lease(connection, lease.job_id))
    _save_lease(connection, lease.job_id, lease_policy.renew(record))


def release(connection: sqlite3.Connection, lease: Lease, *, keep_request: bool) -> None:
    """Give the lease back. The row stays, so that the fencing token keeps growing."""
    released = connection.execute(
        "UPDATE leases SET owner = NULL, lease_until = 0, stop_reason = NULL"
        " WHERE job_id = ? AND owner = ? AND fence = ?",
        (lease.job_id, lease.owner, lease.fence),
    )
    if released.rowcount and not keep_request:
        connection.execute("DELETE FROM requests WHERE job_id = ?", (lease.job_id,))


def request_stop(
    connection: sqlite3.Connection, lease_policy: LeasePolicy, job_id: str, reason: str
) -> bool:
    """Leave word for the owner, if there is one."""
    if not lease_policy.is_driven(load_lease(connection, job_id)):
        return False
    connection.execute("UPDATE leases SET stop_reason = ? WHERE job_id = ?", (reason, job_id))
    return True


def load_lease(connection: sqlite3.Connection, job_id: str) -> LeaseRecord | None:
    """What is on record about the driver of a job."""
    row = connection.execute(
        "SELECT owner, lease_until, fence, takeovers FROM leases WHERE job_id = ?", (job_id,)
    ).fetchone()
    return None if row is None else LeaseRecord(*row)


def _save_lease(connection: sqlite3.Connection, job_id: str, record: LeaseRecord) -> None:
    row = (job_id, record.owner, record.lease_until, record.fence, record.takeovers)
    connection.execute(SAVE_LEASE, row)


def _load_projection(
    connection: sqlite3.Connection, job_id: str, run_ids: Collection[str]
) -> tuple[JobProjection | None, dict[str, int]]:
    row = connection.execute(
        f"SELECT {JOB_COLUMNS}, jobs.root_run_id FROM jobs WHERE id = ?",  # noqa: S608 - the columns are a constant
        (job_id,),
    ).fetchone()
    if row is None:
        return None, {}
    run_refs: dict[str, int] = {}
    heads: dict[str, RunHead] = {}
    for run_id in run_ids:
        head_row = connection.execute(SELECT_RUN_HEAD, (run_id, job_id)).fetchone()
        if head_row is not None:
            ref, expert_key, is_root, last = head_row
            run_refs[run_id], heads[run_id] = ref, RunHead(expert_key, bool(is_root), last)
    return JobProjection(job_from_columns(row[:-1]), row[-1], heads), run_refs


def create_task(connection: sqlite3.Connection, task: TaskRecord) -> bool:
    cursor = connection.execute(
        "INSERT OR IGNORE INTO tasks (id, job_id, activation, created_at) VALUES (?, ?, ?, ?)",
        (task.task_id, task.job_id, task.activation, task.created_at),
    )
    return cursor.rowcount == 1


def settle_task(
    connection: sqlite3.Connection, task_id: str, status: str, payload: dict[str, Any]
) -> TaskRecord | None:
    connection.execute(
        "UPDATE tasks SET status = ?, payload = ? WHERE id = ? AND status IS NULL",
        (status, json.dumps(payload, separators=(",", ":")), task_id),
    )
    return read_task(connection, task_id)


def _save_job(connection: sqlite3.Connection, projection: JobProjection) -> None:
    job: Job = projection.job
    connection.execute(
        SAVE_JOB,
        (
            job.id,
            job.status,
            job.coordinator_expert_key,
            job.query,
            job.total_steps,
            job.usage.model_dump_json(by_alias=True),
            job.run_count,
            job.started_at,
            job.updated_at,
            job.finished_at,
            projection.root_run_id,
        ),
    )


def _event_row(
    run_refs: dict[str, int], event: RunEvent, content: EncodedEvent
) -> tuple[int, int, str, int, int, str | None]:
    stamp = event.stamp
    return (
        run_refs[stamp.run_id],
        stamp.sequence,
        event.type,
        stamp.step_number,
        stamp.timestamp,
        content.body,
    )
