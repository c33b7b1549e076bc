"""What the store of a workspace knows about its jobs, read without definitions and without keys."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent
from perstack.core.trail import Trail
from perstack.definition.load import find_config
from perstack.errors import DefinitionError, NotFoundError
from perstack.jobs import JobView, view
from perstack.runtime.continuation import query_of, rebuild
from perstack.runtime.ports import Store
from perstack.store.sqlite import open_sqlite_store, store_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of a job with the checkpoint that it led to."""

    event: RunEvent
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A job with all that happened, in the order in which it was written down."""

    view: JobView
    entries: tuple[Entry, ...]
    storage: Path
    is_latest: bool


def find_store(workspace: Path | None, config: Path | None, cwd: Path) -> Path:
    """The store of a workspace.

    Without a workspace: that of `cwd`, else that beside the definition file, which is `config` or
    the nearest one upwards.

    Raises:
        NotFoundError: No job has run there.
    """
    folders = [workspace] if workspace is not None else [cwd, *_home(config, cwd)]
    for folder in folders:
        path = store_path(folder.resolve())
        if path.is_file():
            return path
    raise NotFoundError(
        f"No data found: no job has run in {folders[0].resolve()}.",
        hint="Give the folder that the experts worked in with --workspace.",
    )


def _home(config: Path | None, cwd: Path) -> tuple[Path, ...]:
    try:
        return (find_config(config, cwd).parent,)
    except DefinitionError:
        return ()


@asynccontextmanager
async def open_history(path: Path) -> AsyncGenerator[Store]:
    """The store at `path`, which must exist.

    Raises:
        StoreError: It cannot be opened.
    """
    async with open_sqlite_store(path) as store:
        yield store


async def read_story(store: Store, storage: Path, job_id: str | None) -> Story:
    """A job with its events, the latest one by default.

    Raises:
        NotFoundError: There is no such job, or none at all.
        StoreError: The store cannot be read.
    """
    is_latest = job_id is None
    if job_id is None:
        newest = await store.jobs(limit=1)
        if not newest:
            raise NotFoundError("No data found: the store has no job.")
        job_id = newest[0].id
    record = await store.load(job_id)
    history = rebuild(record)
    _, events = await store.events(job_id)
    first = next(iter(record.runs))
    return Story(
        view=view(history.checkpoints, query=query_of(record, first), status=record.job.status),
        entries=tuple(
            Entry(event=event, checkpoint=checkpoint) for event, checkpoint in Trail(events).steps
        ),
        storage=storage,
        is_latest=is_latest,
    )
