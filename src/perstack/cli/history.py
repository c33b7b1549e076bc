"""What the store of a workspace knows about its jobs, read without definitions and without keys."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from perstack.core.checkpoint import Checkpoint, Job
from perstack.core.events import RunEvent
from perstack.core.machine import IllegalTransitionError
from perstack.core.trail import Trail
from perstack.definition.load import find_config
from perstack.errors import DefinitionError, NotFoundError, StoreError
from perstack.jobs import JobView, view
from perstack.runtime.continuation import query_of
from perstack.runtime.ports import JobRecord
from perstack.store.sqlite import SqliteStore, open_sqlite_store, store_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of a job with the checkpoint that it led to."""

    event: RunEvent
    checkpoint: Checkpoint


# asyncio makes the repr of what its main task returned, which for a long job takes half a minute.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Story:
    """A job with all that happened, in the order in which it was written down."""

    view: JobView
    entries: tuple[Entry, ...]
    storage: Path
    is_latest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which job: by its own id, by that of a run or checkpoint of it, or else the latest."""

    job_id: str | None = None
    run_id: str | None = None
    checkpoint_id: str | None = None

    @property
    def part_of(self) -> str | None:
        """The run that is concerned, if it is only one."""
        if self.checkpoint_id is None:
            return self.run_id
        return self.checkpoint_id.rpartition("-")[0]


class Reader:
    """Reads a job bit by bit, as it grows.

    Args:
        store: Where it is.
        storage: The file of the store.
        job_id: The job.
        is_latest: Whether it was taken because it is the latest.
    """

    def __init__(
        self, store: SqliteStore, storage: Path, job_id: str, *, is_latest: bool = False
    ) -> None:
        self.job_id = job_id
        self._store = store
        self._storage = storage
        self._is_latest = is_latest
        self._position = 0
        self._trail = Trail()
        self._job: Job | None = None

    async def read(self) -> tuple[Entry, ...]:
        """What has happened since the last time.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        # How the job stands comes first: once it has stopped, the events that follow are all.
        self._job = await self._store.summary(self.job_id)
        self._position, events = await self._store.events(self.job_id, self._position)
        known = len(self._trail.steps)
        try:
            self._trail.extend(events)
        except IllegalTransitionError as error:
            raise StoreError(
                f"The events of job {self.job_id} do not fit together: {error}.",
                hint="The store is damaged, or a newer version of perstack wrote it.",
            ) from error
        return tuple(
            Entry(event=event, checkpoint=checkpoint)
            for event, checkpoint in self._trail.steps[known:]
        )

    @property
    def has_stopped(self) -> bool:
        """Whether nobody drove the job any more when it was read."""
        return self._job is not None and self._job.status != "running"

    def story(self) -> Story:
        """All that was read."""
        if self._job is None:
            raise ValueError("a story is read before it is told")
        steps = self._trail.steps
        first = steps[0][0]
        record = JobRecord(self._job, {first.stamp.run_id: (first,)})
        return Story(
            view=view(
                self._trail.newest,
                query=query_of(record, first.stamp.run_id),
                status=self._job.status,
            ),
            entries=tuple(Entry(event=event, checkpoint=after) for event, after in steps),
            storage=self._storage,
            is_latest=self._is_latest,
        )


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
async def open_history(path: Path) -> AsyncGenerator[SqliteStore]:
    """The store at `path`, which must exist.

    Raises:
        StoreError: It cannot be opened.
    """
    async with open_sqlite_store(path) as store:
        yield store


async def find_job(store: SqliteStore, storage: Path, wanted: Wanted) -> Reader:
    """The job that is meant, not yet read.

    Raises:
        NotFoundError: There is no such run or checkpoint, or no job at all.
        StoreError: The store cannot be read.
    """
    if wanted.job_id is not None:
        return Reader(store, storage, wanted.job_id)
    if wanted.part_of is not None:
        job_id = await store.job_of_run(wanted.part_of)
        if job_id is None:
            where = "in any job of this workspace"
            if wanted.checkpoint_id is not None:
                raise _no_checkpoint(wanted.checkpoint_id, where)
            raise _no_run(wanted.part_of, where)
        return Reader(store, storage, job_id)
    newest = await store.jobs(limit=1)
    if not newest:
        raise NotFoundError("No data found: the store has no job.")
    return Reader(store, storage, newest[0].id, is_latest=True)


async def read_story(store: SqliteStore, storage: Path, wanted: Wanted) -> Story:
    """A job with its events.

    Raises:
        NotFoundError: There is no such job, run or checkpoint, or no job at all.
        StoreError: The store cannot be read.
    """
    reader = await find_job(store, storage, wanted)
    await reader.read()
    story = reader.story()
    check_part(story, wanted)
    return story


def check_part(story: Story, wanted: Wanted) -> None:
    """Make sure that the run and the checkpoint that are meant are there.

    Raises:
        NotFoundError: They are not part of the job, or the checkpoint is not one of the run.
    """
    job = f"in job {story.view.job.id}"
    run_id, checkpoint_id = wanted.run_id, wanted.checkpoint_id
    if run_id is not None and run_id not in {run.run_id for run in story.view.runs}:
        raise _no_run(run_id, job)
    if checkpoint_id is None:
        return
    if checkpoint_id not in {entry.checkpoint.id for entry in story.entries}:
        raise _no_checkpoint(checkpoint_id, job)
    if run_id not in (None, wanted.part_of):
        raise _no_checkpoint(checkpoint_id, f"in run {run_id}")


def _no_run(run_id: str, where: str) -> NotFoundError:
    return NotFoundError(
        f"Run {run_id} not found {where}.",
        hint="perstack log --jobs lists the jobs, perstack log --job ID shows the runs of one.",
    )


def _no_checkpoint(checkpoint_id: str, where: str) -> NotFoundError:
    return NotFoundError(
        f"Checkpoint {checkpoint_id} not found {where}.",
        hint="The id of each event of a run is one; perstack log --json shows them.",
    )
