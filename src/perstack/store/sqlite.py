"""The store of one workspace: a SQLite file that several processes may use at the same time."""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread

from perstack.analysis.statistics import JobFacts
from perstack.core.checkpoint import Job, JobStatus
from perstack.core.events import RecordToolResult, RunEvent
from perstack.runtime.ports import JobRecord, Lease, Orphan, SystemClock, TaskRecord
from perstack.store import admin, statements_read, statements_write, stats_query
from perstack.store.connection import open_connections, store_error
from perstack.store.event_codec import encode_event
from perstack.store.group_commit import GroupCommitter
from perstack.store.leases import (
    IsAlive,
    LeasePolicy,
    WallClock,
    boot_id,
    current_owner,
    even_clock,
    process_is_alive,
)

T = TypeVar("T")


def has_unfinished_jobs(path: Path, since_ms: int) -> bool:
    """Whether a store may have jobs that have not stopped and to which something happened lately.

    Opens nothing for writing. A file that cannot be read has none.
    """
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return statements_read.has_unfinished_jobs(connection, since_ms)
    except sqlite3.Error:
        return False


def may_have_job(path: Path, *, job_id: str | None, run_id: str | None) -> bool:
    """Whether a store has a job of this id, with a run of this id, or any at all.

    Opens nothing for writing. Of a file that cannot be read it is assumed.
    """
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return statements_read.has_job(connection, job_id, run_id)
    except sqlite3.Error:
        return True


class SqliteStore:
    """Satisfies the `Store` port. Made by `open_sqlite_store`."""

    def __init__(
        self,
        path: Path,
        lease_policy: LeasePolicy,
        committer: GroupCommitter,
        connection: sqlite3.Connection,
        reader_limiter: anyio.CapacityLimiter,
    ) -> None:
        self._path = path
        self._lease_policy = lease_policy
        self._committer = committer
        self._reading_connection = connection
        self._reader_limiter = reader_limiter
        self._driven_job_ids: set[str] = set()

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        for event in events:
            if event.stamp.job_id != lease.job_id:
                raise ValueError(f"event {event.id} is not of job {lease.job_id}")
        rows = [(event, encode_event(event)) for event in events]
        await self._committer.submit(
            lambda connection: statements_write.append(connection, self._lease_policy, lease, rows),
            is_alone=self._driven_job_ids == {lease.job_id},
        )

    async def submit_request(self, job_id: str, request: dict[str, Any]) -> None:
        await self._committer.submit(
            lambda connection: statements_write.submit_request(
                connection, self._lease_policy, job_id, request
            )
        )

    async def request(self, job_id: str) -> dict[str, Any] | None:
        return await self._run_query(partial(statements_read.request, job_id=job_id))

    async def acquire(self, job_id: str, request: dict[str, Any] | None = None) -> Lease:
        lease = await self._committer.submit(
            lambda connection: statements_write.acquire(
                connection, self._lease_policy, job_id, request
            )
        )
        self._driven_job_ids.add(job_id)
        return lease

    async def renew(self, lease: Lease) -> None:
        await self._committer.submit(
            lambda connection: statements_write.renew(connection, self._lease_policy, lease)
        )

    async def release(self, lease: Lease, *, keep_request: bool = False) -> None:
        self._driven_job_ids.discard(lease.job_id)
        await self._committer.submit(
            partial(statements_write.release, lease=lease, keep_request=keep_request)
        )

    async def request_stop(self, job_id: str, reason: str) -> bool:
        return await self._committer.submit(
            lambda connection: statements_write.request_stop(
                connection, self._lease_policy, job_id, reason
            )
        )

    async def stop_requests(self) -> dict[str, str]:
        return await self._run_query(
            partial(statements_read.stop_requests, owner=self._lease_policy.owner)
        )

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        return await self._run_query(
            lambda connection: statements_read.orphans(connection, self._lease_policy, since_ms)
        )

    async def load(self, job_id: str) -> JobRecord:
        return await self._run_query(
            lambda connection: statements_read.load(connection, self._lease_policy, job_id)
        )

    async def events(self, job_id: str, after: int = 0) -> tuple[int, tuple[RunEvent, ...]]:
        return await self._run_query(
            lambda connection: statements_read.events(connection, job_id, after)
        )

    async def shortened_results(
        self, job_id: str, tool_call_id: str
    ) -> tuple[RecordToolResult, ...]:
        return await self._run_query(
            lambda connection: statements_read.shortened_results(connection, job_id, tool_call_id)
        )

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        expert_key: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[Job, ...]:
        return await self._run_query(
            partial(
                statements_read.jobs,
                lease_policy=self._lease_policy,
                status=status,
                expert_key=expert_key,
                limit=limit,
                offset=offset,
            )
        )

    async def create_task(self, task: TaskRecord) -> bool:
        return await self._committer.submit(partial(statements_write.create_task, task=task))

    async def task(self, task_id: str) -> TaskRecord | None:
        return await self._run_query(partial(statements_read.task, task_id=task_id))

    async def settle_task(
        self, task_id: str, status: str, payload: dict[str, Any]
    ) -> TaskRecord | None:
        return await self._committer.submit(
            partial(statements_write.settle_task, task_id=task_id, status=status, payload=payload)
        )

    async def summary(self, job_id: str) -> Job:
        return await self._run_query(
            lambda connection: statements_read.summary(connection, self._lease_policy, job_id)
        )

    async def job_of_run(self, run_id: str) -> str | None:
        """The id of the job that a run belongs to; `None` if there is no such run.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._run_query(partial(statements_read.job_of_run, run_id=run_id))

    async def scan_jobs(self, since_ms: int, on_job: Callable[[JobFacts], None]) -> None:
        """Show `on_job` each job that began at `since_ms` or later, oldest first.

        `on_job` is called in a thread.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._run_query(
            lambda connection: stats_query.scan_jobs(
                connection, self._lease_policy, since_ms, on_job
            )
        )

    async def remove(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Remove jobs, as they were listed, with their events and with blobs that no other uses.

        A job that a process drives, or that has changed since, stays.

        Returns:
            The ids of those that are gone.

        Raises:
            StoreError: The store cannot be read or written. Some may be gone by then.
        """
        removed: list[str] = []
        for batch in admin.job_batches(jobs):
            removed += await self._committer.submit(
                partial(admin.remove_jobs, lease_policy=self._lease_policy, jobs=batch)
            )
        used = await self._run_query(admin.find_references)
        await self._committer.submit(partial(admin.remove_blobs, used=used))
        return tuple(removed)

    async def event_bytes(self, jobs: Sequence[Job]) -> int:
        """About how many bytes the events of these jobs are.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._run_query(partial(admin.event_bytes, jobs=jobs))

    async def vacuum(self) -> tuple[int, int] | None:
        """Give free space back to the disk, unless jobs are driven.

        Returns:
            The bytes of the store before and afterwards; `None` if it was left as it is.

        Raises:
            StoreError: The store cannot be read or written.
        """
        try:
            return await anyio.to_thread.run_sync(admin.vacuum, self._path, self._lease_policy)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error

    async def _run_query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(
                query, self._reading_connection, limiter=self._reader_limiter
            )
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error


def _lease_clock(connection: sqlite3.Connection, path: Path, clock: WallClock) -> WallClock:
    boot = boot_id()
    if not boot:
        # Processes could not tell whether an offset in the store is one of this boot.
        return clock
    try:
        return even_clock(clock, partial(statements_write.clock_offset, connection, boot))
    except sqlite3.Error as error:
        raise store_error(error, path) from error


@asynccontextmanager
async def open_sqlite_store(
    path: Path,
    *,
    owner: str | None = None,
    clock: WallClock | None = None,
    is_alive: IsAlive = process_is_alive,
) -> AsyncGenerator[SqliteStore, None]:
    """Open the store at `path`, made with its folder if missing; leaving the context closes it.

    Args:
        path: The file.
        owner: Who takes leases through this store; this process by default.
        clock: Decides when leases expire; the machine's by default.
        is_alive: Whether another owner may still be working.

    Raises:
        StoreError: It cannot be opened, or a newer version of perstack made it.
    """
    writing_connection, reading_connection = await anyio.to_thread.run_sync(open_connections, path)
    committer = GroupCommitter(writing_connection, path)
    reader_limiter = anyio.CapacityLimiter(1)
    try:
        lease_clock = await anyio.to_thread.run_sync(
            _lease_clock, writing_connection, path, clock or SystemClock()
        )
        lease_policy = LeasePolicy(owner or current_owner(), lease_clock, is_alive)
        yield SqliteStore(path, lease_policy, committer, reading_connection, reader_limiter)
    finally:
        await committer.close()
        # The last connection of all processes folds the log back into the file as it closes.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(reading_connection.close, limiter=reader_limiter)
            await anyio.to_thread.run_sync(writing_connection.close)
