"""Stores by their URL: the one place that knows which back end a store has."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from perstack.analysis.statistics import JobFacts
from perstack.core.checkpoint import Job
from perstack.errors import ConfigError
from perstack.runtime.ports import Clock, Store

SQLITE_SCHEME = "sqlite://"


class StoreAdmin(Store, Protocol):
    """A store with what its owner needs beside the jobs at work: look up, count, remove."""

    async def job_of_run(self, run_id: str) -> str | None:
        """The id of the job that a run belongs to; `None` if there is no such run.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def scan_jobs(self, since_ms: int, on_job: Callable[[JobFacts], None]) -> None:
        """Call `on_job`, in a thread, for each job begun at `since_ms` or later, oldest first.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def remove(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Remove jobs as they were listed, with their events, tasks and unshared blobs.

        A job that a process drives, or that has changed since, stays.

        Returns:
            The ids of the removed jobs.

        Raises:
            StoreError: The store cannot be read or written. Some may be removed by then.
        """
        ...

    async def event_bytes(self, jobs: Sequence[Job]) -> int:
        """The approximate size of the events of these jobs, in bytes.

        Raises:
            StoreError: The store cannot be read.
        """
        ...

    async def vacuum(self) -> tuple[int, int] | None:
        """Give free space back to the disk, unless jobs are driven.

        Returns:
            The bytes of the store before and after; `None` if it was left as it is.

        Raises:
            StoreError: The store cannot be read or written.
        """
        ...


def store_path(workspace: Path) -> Path:
    """The file of the embedded store of a workspace."""
    return workspace / "perstack" / "store.db"


def sqlite_url(path: Path) -> str:
    return f"{SQLITE_SCHEME}{path}"


@asynccontextmanager
async def open_store(url: str, clock: Clock | None = None) -> AsyncGenerator[StoreAdmin]:
    """The store at `url`, created if it is missing; leaving the context closes it.

    Args:
        url: `sqlite://` and the path of a file.
        clock: Decides when leases expire; by default the machine's.

    Raises:
        ConfigError: No back end has this scheme.
        StoreError: The store cannot be opened, or a newer version of perstack made it.
    """
    if not url.startswith(SQLITE_SCHEME):
        raise ConfigError(
            f"There is no store for {url.partition('://')[0]!r} URLs.",
            hint=f"Use {SQLITE_SCHEME} and the path of a file.",
        )
    # Faces import this module for paths alone; most of their commands open no store.
    from perstack.store.sqlite import open_sqlite_store  # noqa: PLC0415 - see above

    async with open_sqlite_store(Path(url.removeprefix(SQLITE_SCHEME)), clock=clock) as store:
        yield store


def has_unfinished_jobs(workspace: Path, since_ms: int) -> bool:
    """Whether the store of a workspace may have unfinished jobs that changed after a moment.

    Opens nothing for writing. A store that is missing or cannot be read has none.
    """
    from perstack.store.sqlite import has_unfinished_jobs  # noqa: PLC0415 - as above

    return has_unfinished_jobs(store_path(workspace), since_ms)


def may_have_job(workspace: Path, *, job_id: str | None = None, run_id: str | None = None) -> bool:
    """Whether the store of a workspace has a job of this id, with a run of this id, or any at all.

    Opens nothing for writing. Of a store that cannot be read it is assumed.
    """
    from perstack.store.sqlite import may_have_job  # noqa: PLC0415 - as above

    return may_have_job(store_path(workspace), job_id=job_id, run_id=run_id)
