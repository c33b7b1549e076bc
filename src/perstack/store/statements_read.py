"""The statements behind `load`, `events` and `jobs`, and those that find a job."""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from perstack.core.checkpoint import Job, JobStatus
from perstack.core.events import RecordToolResult, RunEvent
from perstack.core.messages import Usage
from perstack.errors import StoreError, job_not_found
from perstack.runtime.ports import JobRecord, Orphan, TaskRecord
from perstack.store.event_codec import EventRow, decode_rows
from perstack.store.leases import LeasePolicy, LeaseRecord
from perstack.store.projection import group_by_run, with_interrupted

JOB_COLUMNS = """
    jobs.id, jobs.status, jobs.coordinator_expert_key, jobs.query, jobs.total_steps, jobs.usage,
    jobs.run_count, jobs.started_at, jobs.updated_at, jobs.finished_at
"""
SELECT_JOBS = f"""
    SELECT {JOB_COLUMNS}, leases.owner, coalesce(leases.lease_until, 0), coalesce(leases.fence, 0)
    FROM jobs LEFT JOIN leases ON leases.job_id = jobs.id
"""  # noqa: S608 - the columns are a constant
NEWEST_FIRST = "ORDER BY jobs.started_at DESC, jobs.ref DESC LIMIT ? OFFSET ?"
UNFINISHED = """
    SELECT id AS job_id, started_at, ref FROM jobs
    WHERE status = 'running' AND updated_at >= :since
"""
PENDING = "SELECT job_id, created_at, NULL FROM requests WHERE created_at >= :since"
SELECT_UNFINISHED = f"""
    SELECT job_id, owner, coalesce(lease_until, 0), coalesce(fence, 0), coalesce(takeovers, 0)
    FROM ({UNFINISHED} UNION ALL {PENDING}) LEFT JOIN leases USING (job_id)
    GROUP BY job_id ORDER BY started_at DESC, ref DESC
"""  # noqa: S608 - constants
SELECT_JOB_ID = "SELECT id FROM jobs WHERE id = :id"
SELECT_REQUEST_ID = "SELECT job_id FROM requests WHERE job_id = :id"
# The plus sign keeps SQLite from walking over the events of all other jobs by position.
SELECT_EVENTS = """
    SELECT events.position, runs.id, runs.expert_key, events.step_number, events.sequence,
        events.timestamp, events.type, events.body
    FROM jobs JOIN runs ON runs.job = jobs.ref JOIN events ON events.run = runs.ref
    WHERE jobs.id = ? AND +events.position > ?
    ORDER BY events.position
"""
# The id is compared in Python, because what looks like it may stand elsewhere in the body.
SELECT_SHORTENED_RESULTS = """
    SELECT runs.id, runs.expert_key, events.step_number, events.sequence, events.timestamp,
        events.type, events.body
    FROM jobs JOIN runs ON runs.job = jobs.ref JOIN events ON events.run = runs.ref
    WHERE jobs.id = ? AND events.type = 'recordToolResult'
        AND instr(events.body, '"wholeText":') AND instr(events.body, ?)
    ORDER BY events.position
"""


def load(connection: sqlite3.Connection, lease_policy: LeasePolicy, job_id: str) -> JobRecord:
    """A job and its events, as they were at one moment."""
    connection.execute("BEGIN")
    try:
        row = connection.execute(f"{SELECT_JOBS} WHERE jobs.id = ?", (job_id,)).fetchone()
        _, stored = events(connection, job_id, 0)
    finally:
        connection.execute("COMMIT")
    return JobRecord(job_from_row(row, lease_policy), group_by_run(stored))


def has_job(connection: sqlite3.Connection, job_id: str | None, run_id: str | None) -> bool:
    """Whether there is a job of this id, accepted ones included, else one with a run of this id.

    Without either id, whether there is any job.
    """
    if job_id is not None:
        statement = f"{SELECT_JOB_ID} UNION {SELECT_REQUEST_ID}"
    elif run_id is not None:
        statement = "SELECT id FROM runs WHERE id = :id"
    else:
        statement = "SELECT id FROM jobs LIMIT 1"
    return connection.execute(statement, {"id": job_id or run_id}).fetchone() is not None


def events(
    connection: sqlite3.Connection, job_id: str, after: int
) -> tuple[int, tuple[RunEvent, ...]]:
    """Events after a position, and the position of the last one.

    Raises:
        NotFoundError: There is no such job.
    """
    rows = connection.execute(SELECT_EVENTS, (job_id, after)).fetchall()
    if not rows and not _exists(connection, job_id):
        raise job_not_found(job_id)
    found = decode_rows(
        (EventRow(job_id, *fields) for _, *fields in rows), _blob_reader(connection, job_id)
    )
    return rows[-1][0] if rows else after, found


def _blob_reader(connection: sqlite3.Connection, job_id: str) -> Callable[[str], bytes]:
    def fetch(digest: str) -> bytes:
        found = connection.execute("SELECT bytes FROM blobs WHERE sha256 = ?", (digest,)).fetchone()
        if found is None:
            raise StoreError(
                f"A part of job {job_id} is missing from the store (blob {digest}).",
                hint="The store is damaged; restore it from a backup.",
            )
        return found[0]

    return fetch


def shortened_results(
    connection: sqlite3.Connection, job_id: str, tool_call_id: str
) -> tuple[RecordToolResult, ...]:
    """The shortened results of calls with an id, in the order of writing."""
    # Other characters may be escaped in the body or not.
    id_as_json = json.dumps(tool_call_id) if tool_call_id.isascii() else ""
    rows = connection.execute(SELECT_SHORTENED_RESULTS, (job_id, id_as_json)).fetchall()
    found = decode_rows(
        (EventRow(job_id, *fields) for fields in rows), _blob_reader(connection, job_id)
    )
    return tuple(
        event
        for event in found
        if isinstance(event, RecordToolResult) and event.tool_result.id == tool_call_id
    )


def jobs(
    connection: sqlite3.Connection,
    lease_policy: LeasePolicy,
    *,
    status: JobStatus | None,
    expert_key: str | None,
    limit: int,
    offset: int,
) -> tuple[Job, ...]:
    """Summaries, newest first."""
    conditions: list[str] = []
    values: list[object] = []
    if expert_key is not None:
        conditions.append("jobs.coordinator_expert_key = ?")
        values.append(expert_key)
    # Whether a job that has not stopped is running or interrupted is not on disk: its driver may
    # have died without a word. So these two are told apart, and counted, after the query.
    is_open = status in {"running", "interrupted"}
    if status is not None:
        conditions.append("jobs.status = ?")
        values.append("running" if is_open else status)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values += [-1, 0] if is_open else [limit, offset]
    rows = connection.execute(f"{SELECT_JOBS} {where} {NEWEST_FIRST}", values).fetchall()
    summaries = tuple(job_from_row(row, lease_policy) for row in rows)
    if not is_open:
        return summaries
    return tuple(job for job in summaries if job.status == status)[offset : offset + limit]


def orphans(
    connection: sqlite3.Connection, lease_policy: LeasePolicy, since_ms: int
) -> tuple[Orphan, ...]:
    """Jobs without a driver before or in the middle of their work, newest first."""
    rows = connection.execute(SELECT_UNFINISHED, {"since": since_ms}).fetchall()
    leases = ((job_id, LeaseRecord(*record)) for job_id, *record in rows)
    return tuple(
        Orphan(job_id, held.takeovers)
        for job_id, held in leases
        if not lease_policy.is_driven(held)
    )


def has_unfinished_jobs(connection: sqlite3.Connection, since_ms: int) -> bool:
    """Whether a job has not stopped, of those to which something happened after a moment."""
    # One by one, because a store of an older version has no table of requests.
    return any(
        connection.execute(f"{query} LIMIT 1", {"since": since_ms}).fetchone() is not None
        for query in (UNFINISHED, PENDING)
    )


def stop_requests(connection: sqlite3.Connection, owner: str) -> dict[str, str]:
    """The jobs of an owner that are to be stopped, with the reasons."""
    rows = connection.execute(
        "SELECT job_id, stop_reason FROM leases WHERE stop_reason IS NOT NULL AND owner = ?",
        (owner,),
    )
    return {str(job_id): str(reason) for job_id, reason in rows}


def job_from_columns(row: Sequence[Any]) -> Job:
    """The summary in the columns `JOB_COLUMNS`."""
    job_id, status, key, query, steps, usage, runs, started, updated, finished = row
    return Job(
        id=job_id,
        status=status,
        coordinator_expert_key=key,
        query=query,
        total_steps=steps,
        usage=Usage.model_validate_json(usage),
        run_count=runs,
        started_at=started,
        updated_at=updated,
        finished_at=finished,
    )


def summary(connection: sqlite3.Connection, lease_policy: LeasePolicy, job_id: str) -> Job:
    """The summary of a job, without its events.

    Raises:
        NotFoundError: There is no such job.
    """
    row = connection.execute(f"{SELECT_JOBS} WHERE jobs.id = ?", (job_id,)).fetchone()
    if row is None:
        raise job_not_found(job_id)
    return job_from_row(row, lease_policy)


def job_of_run(connection: sqlite3.Connection, run_id: str) -> str | None:
    """The job that a run belongs to; `None` if the store has no such run."""
    row = connection.execute(
        "SELECT jobs.id FROM runs JOIN jobs ON jobs.ref = runs.job WHERE runs.id = ?", (run_id,)
    ).fetchone()
    return row[0] if row else None


def request(connection: sqlite3.Connection, job_id: str) -> dict[str, Any] | None:
    row = connection.execute("SELECT request FROM requests WHERE job_id = ?", (job_id,)).fetchone()
    return None if row is None else json.loads(row[0])


def task(connection: sqlite3.Connection, task_id: str) -> TaskRecord | None:
    row = connection.execute(
        "SELECT job_id, activation, created_at, status, payload FROM tasks WHERE id = ?",
        (task_id,),
    ).fetchone()
    if row is None:
        return None
    job_id, activation, created_at, status, payload = row
    return TaskRecord(
        task_id=task_id,
        job_id=job_id,
        activation=activation,
        created_at=created_at,
        status=status,
        payload=None if payload is None else json.loads(payload),
    )


def job_from_row(row: Sequence[Any], lease_policy: LeasePolicy) -> Job:
    """The job in a row of `SELECT_JOBS`, interrupted if no process drives it."""
    return with_interrupted(
        job_from_columns(row[:-3]), is_driven=lease_policy.is_driven(LeaseRecord(*row[-3:]))
    )


def _exists(connection: sqlite3.Connection, job_id: str) -> bool:
    rows: Iterable[object] = connection.execute("SELECT 1 FROM jobs WHERE id = ?", (job_id,))
    return any(True for _ in rows)
