"""The store of one workspace: a SQLite file that several processes may use at the same time."""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from perstack.core.checkpoint import Job, JobStatus
from perstack.core.events import RunEvent
from perstack.core.figures import JobFacts
from perstack.runtime.clock import SystemClock
from perstack.runtime.ports import JobRecord, Lease, Orphan
from perstack.store import pruning, reading, survey, writing
from perstack.store.connection import open_connections, store_error
from perstack.store.ownership import (
    IsAlive,
    Ownership,
    WallClock,
    process_is_alive,
    this_process,
)
from perstack.store.rows import encode
from perstack.store.writer import Writer

T = TypeVar("T")


def store_path(workspace: Path) -> Path:
    """Where the store of a workspace is."""
    return workspace / "perstack" / "store.db"


def has_unfinished(path: Path, since_ms: int) -> bool:
    """Whether a store may have jobs that have not stopped and to which something happened lately.

    A look that opens nothing for writing and changes nothing. A file that cannot be read has none.
    """
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return reading.has_unfinished(connection, since_ms)
    except sqlite3.Error:
        return False


class SqliteStore:
    """Satisfies the `Store` port. Made by `open_sqlite_store`."""

    def __init__(
        self,
        path: Path,
        ownership: Ownership,
        writer: Writer,
        connection: sqlite3.Connection,
        one_reader: anyio.CapacityLimiter,
    ) -> None:
        self._path = path
        self._ownership = ownership
        self._writer = writer
        self._connection = connection
        self._one_reader = one_reader

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        for event in events:
            if event.stamp.job_id != lease.job_id:
                raise ValueError(f"event {event.id} is not of job {lease.job_id}")
        rows = [(event, encode(event)) for event in events]
        await self._writer.submit(
            lambda connection: writing.append(connection, self._ownership, lease, rows)
        )

    async def acquire(self, job_id: str) -> Lease:
        return await self._writer.submit(
            lambda connection: writing.acquire(connection, self._ownership, job_id)
        )

    async def renew(self, lease: Lease) -> None:
        await self._writer.submit(
            lambda connection: writing.renew(connection, self._ownership, lease)
        )

    async def release(self, lease: Lease) -> None:
        await self._writer.submit(lambda connection: writing.release(connection, lease))

    async def ask_to_stop(self, job_id: str, reason: str) -> bool:
        return await self._writer.submit(
            lambda connection: writing.ask_to_stop(connection, self._ownership, job_id, reason)
        )

    async def asked_to_stop(self) -> dict[str, str]:
        return await self._read(partial(reading.asked_to_stop, owner=self._ownership.owner))

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        return await self._read(
            lambda connection: reading.orphans(connection, self._ownership, since_ms)
        )

    async def load(self, job_id: str) -> JobRecord:
        return await self._read(
            lambda connection: reading.load(connection, self._ownership, job_id)
        )

    async def events(self, job_id: str, after: int = 0) -> tuple[int, tuple[RunEvent, ...]]:
        return await self._read(lambda connection: reading.events(connection, job_id, after))

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        expert_key: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[Job, ...]:
        return await self._read(
            partial(
                reading.jobs,
                ownership=self._ownership,
                status=status,
                expert_key=expert_key,
                limit=limit,
                offset=offset,
            )
        )

    async def summary(self, job_id: str) -> Job:
        """How a job stands, without its events.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        return await self._read(
            lambda connection: reading.summary(connection, self._ownership, job_id)
        )

    async def job_of_run(self, run_id: str) -> str | None:
        """The id of the job that a run belongs to; `None` if there is no such run.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._read(partial(reading.job_of_run, run_id=run_id))

    async def survey(self, since_ms: int, see: Callable[[JobFacts], None]) -> None:
        """Show `see` each job that began at `since_ms` or later, oldest first.

        `see` is called in a thread.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._read(
            lambda connection: survey.survey(connection, self._ownership, since_ms, see)
        )

    async def remove(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Remove jobs, as they were listed, with their events and with blobs that no other uses.

        One that somebody drives, or that has gone on since, stays.

        Returns:
            The ids of those that are gone.

        Raises:
            StoreError: The store cannot be read or written. Some may be gone by then.
        """
        removed: list[str] = []
        for batch in pruning.batches(jobs):
            removed += await self._writer.submit(
                partial(pruning.remove_jobs, ownership=self._ownership, jobs=batch)
            )
        used = await self._read(pruning.references)
        await self._writer.submit(partial(pruning.remove_blobs, used=used))
        return tuple(removed)

    async def weight_of(self, jobs: Sequence[Job]) -> int:
        """About how many bytes the events of these jobs are.

        Raises:
            StoreError: The store cannot be read.
        """
        return await self._read(partial(pruning.weight_of, jobs=jobs))

    async def shrink(self) -> tuple[int, int] | None:
        """Give free space back to the disk, unless jobs are driven.

        Returns:
            The bytes of the store before and afterwards; `None` if it was left as it is.

        Raises:
            StoreError: The store cannot be read or written.
        """
        try:
            return await anyio.to_thread.run_sync(pruning.shrink, self._path, self._ownership)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(query, self._connection, limiter=self._one_reader)
        except sqlite3.Error as error:
            raise store_error(error, self._path) from error


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
        path: The file, see `store_path`.
        owner: Who takes leases through this store; this process by default.
        clock: Tells when leases expire; the machine's by default.
        is_alive: Tells whether another owner may still be working.

    Raises:
        StoreError: It cannot be opened, or a newer version of perstack made it.
    """
    ownership = Ownership(owner or this_process(), clock or SystemClock(), is_alive)
    writing_connection, reading_connection = await anyio.to_thread.run_sync(open_connections, path)
    writer = Writer(writing_connection, path)
    one_reader = anyio.CapacityLimiter(1)
    try:
        yield SqliteStore(path, ownership, writer, reading_connection, one_reader)
    finally:
        await writer.close()
        # The last connection of all processes folds the log back into the file as it closes.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(reading_connection.close, limiter=one_reader)
            await anyio.to_thread.run_sync(writing_connection.close)
