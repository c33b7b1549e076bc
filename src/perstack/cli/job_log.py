"""What the store of a workspace knows about its jobs, read without definitions and without keys."""

import shlex
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from perstack.core.checkpoint import Job
from perstack.core.events import RunEvent, parse_checkpoint_id
from perstack.core.history import JobHistory, RecordedEvent
from perstack.core.machine import IllegalTransitionError
from perstack.definition.loader import find_config
from perstack.errors import DefinitionError, NotFoundError, StoreError, job_not_found
from perstack.jobs import JobView, build_view
from perstack.runtime.ports import Clock, JobRecord
from perstack.runtime.start_plan import query_of_run
from perstack.stores import StoreAdmin, may_have_job, open_store, sqlite_url, store_path

NO_LIMIT = 2**31
"""The `limit` of a list of all jobs."""

POLL_SECONDS = 0.2
"""Between two polls of the store."""


# asyncio makes the repr of its main task's result, which takes half a minute for a long job.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class JobLog:
    """A job with its events in stored order."""

    view: JobView
    entries: tuple[RecordedEvent, ...]
    storage: Path
    is_latest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSelector:
    """Selects a job by its id, or by that of a run or checkpoint of it; otherwise the latest."""

    job_id: str | None = None
    run_id: str | None = None
    checkpoint_id: str | None = None

    @property
    def target_run_id(self) -> str | None:
        """The run that the log is limited to, if any."""
        if self.checkpoint_id is None:
            return self.run_id
        return parse_checkpoint_id(self.checkpoint_id).run_id


class JobLogReader:
    """Reads a job incrementally, as it grows.

    Args:
        storage: The file of the store.
        is_latest: Whether the job was selected because it is the latest.
    """

    def __init__(
        self, store: StoreAdmin, storage: Path, job_id: str, *, is_latest: bool = False
    ) -> None:
        self.job_id = job_id
        self._store = store
        self._storage = storage
        self._is_latest = is_latest
        self._position = 0
        self._history = JobHistory()
        self._job: Job | None = None

    async def read_new(self) -> tuple[RecordedEvent, ...]:
        """The events since the last call.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        # The status is read first: after a stop, the events read next are complete.
        self._job = await self._store.summary(self.job_id)
        self._position, events = await self._store.events(self.job_id, self._position)
        seen_count = len(self._history.recorded_events)
        try:
            self._history.extend(events)
        except IllegalTransitionError as error:
            raise StoreError(
                f"The events of job {self.job_id} do not fit together: {error}.",
                hint="The store is damaged, or a newer version of perstack wrote it.",
            ) from error
        return tuple(self._history.recorded_events[seen_count:])

    @property
    def has_stopped(self) -> bool:
        """Whether no process drove the job when it was read."""
        return self._job is not None and self._job.status != "running"

    def snapshot(self) -> JobLog:
        if self._job is None:
            raise ValueError("the job has not been read yet")
        steps = self._history.recorded_events
        first = steps[0][0]
        record = JobRecord(self._job, {first.stamp.run_id: (first,)})
        return JobLog(
            view=build_view(
                self._history.newest_by_run,
                query=query_of_run(record, first.stamp.run_id),
                status=self._job.status,
            ),
            entries=tuple(steps),
            storage=self._storage,
            is_latest=self._is_latest,
        )


def find_store(options: Namespace, selector: JobSelector | None = None) -> Path:
    """The store of the workspace that has the selected job, or any job.

    Without a workspace: that of the current folder, else that beside the definition file.

    Args:
        options: With `workspace` and `config`.
        selector: What is looked for; else any job.

    Raises:
        NoJobError: No job has run there.
        NotFoundError: What is looked for is in no store.
    """
    selector = selector or JobSelector()
    folders = _store_folders(options)
    run_id = selector.target_run_id
    for folder in folders:
        if may_have_job(folder, job_id=selector.job_id, run_id=run_id):
            return store_path(folder)
    places = " and ".join(str(folder) for folder in folders)
    if not any(may_have_job(folder) for folder in folders):
        raise NoJobError(
            f"No data found: no job has run in {places}.",
            hint="Give the folder that the experts worked in with --workspace.",
        )
    hint = f"Looked in {places}; --workspace names another folder."
    if selector.job_id is not None:
        raise NotFoundError(job_not_found(selector.job_id).message, hint=hint)
    raise NotFoundError(_run_not_found(selector).message, hint=hint)


class NoJobError(NotFoundError):
    """No job has run where one was looked for."""


def require_job(options: Namespace, job_id: str | None) -> None:
    """Check that the workspace in which a job would be continued has it, or has any.

    Raises:
        NotFoundError: It does not. Where the job is, is told if it is in a place that is known.
    """
    workspace, *others = _store_folders(options)
    if may_have_job(workspace, job_id=job_id):
        return
    elsewhere = next((each for each in others if may_have_job(each, job_id=job_id)), None)
    if elsewhere is not None:
        hint = f"There is one in {elsewhere}: give --workspace {shlex.quote(str(elsewhere))}."
    else:
        hint = "Give the folder that the experts worked in with --workspace."
    if job_id is None:
        raise NotFoundError(f"No checkpoint found: no job has run in {workspace}.", hint=hint)
    raise NotFoundError(job_not_found(job_id).message, hint=f"Looked in {workspace}. {hint}")


def _store_folders(options: Namespace) -> list[Path]:
    """The workspaces whose stores are looked in, that of a new job first."""
    if options.workspace is not None:
        return [options.workspace.resolve()]
    folders = [Path.cwd().resolve()]
    with suppress(DefinitionError):
        folders.append(find_config(options.config, Path.cwd()).parent.resolve())
    return list(dict.fromkeys(folders))


async def find_job(store: StoreAdmin, job_id: str | None) -> Job:
    """The job with this id, or the latest one.

    Raises:
        NotFoundError: There is no such job, or none at all.
        StoreError: The store cannot be read.
    """
    if job_id is not None:
        return await store.summary(job_id)
    newest = await store.jobs(limit=1)
    if not newest:
        raise NotFoundError("No data found: the store has no job.")
    return newest[0]


async def find_job_log(store: StoreAdmin, storage: Path, selector: JobSelector) -> JobLogReader:
    """A reader of the selected job, which has read nothing yet.

    Raises:
        NotFoundError: There is no such run or checkpoint, or no job at all.
        StoreError: The store cannot be read.
    """
    run_id = selector.target_run_id
    if selector.job_id is not None:
        return JobLogReader(store, storage, selector.job_id)
    if run_id is None:
        return JobLogReader(store, storage, (await find_job(store, None)).id, is_latest=True)
    job_id = await store.job_of_run(run_id)
    if job_id is not None:
        return JobLogReader(store, storage, job_id)
    raise _run_not_found(selector)


async def read_job_log(store: StoreAdmin, storage: Path, selector: JobSelector) -> JobLog:
    """A job with its events.

    Raises:
        NotFoundError: There is no such job, run or checkpoint, or no job at all.
        StoreError: The store cannot be read.
    """
    reader = await find_job_log(store, storage, selector)
    await reader.read_new()
    job_log = reader.snapshot()
    check_selector(job_log, selector)
    return job_log


def check_selector(job_log: JobLog, selector: JobSelector) -> None:
    """Check that the selected run and checkpoint are part of the job.

    Raises:
        NotFoundError: They are not part of the job, or the checkpoint is not one of the run.
    """
    job = f"in job {job_log.view.job.id}"
    run_id, checkpoint_id = selector.run_id, selector.checkpoint_id
    if run_id is not None and run_id not in {run.run_id for run in job_log.view.runs}:
        raise _not_found("Run", run_id, job)
    if checkpoint_id is None:
        return
    if checkpoint_id not in {entry.checkpoint.id for entry in job_log.entries}:
        raise _not_found("Checkpoint", checkpoint_id, job)
    if run_id not in (None, selector.target_run_id):
        raise _not_found("Checkpoint", checkpoint_id, f"in run {run_id}")


def _run_not_found(selector: JobSelector) -> NotFoundError:
    if selector.checkpoint_id is not None:
        return _not_found("Checkpoint", selector.checkpoint_id, "in any job")
    return _not_found("Run", selector.run_id or "", "in any job")


def _not_found(kind: Literal["Run", "Checkpoint"], name: str, where: str) -> NotFoundError:
    hints = {
        "Run": "perstack log --jobs lists the jobs, perstack log --job ID shows the runs of one.",
        "Checkpoint": "The id of each event of a run is one; perstack log --json shows them.",
    }
    return NotFoundError(f"{kind} {name} not found {where}.", hint=hints[kind])


async def load_events(options: Namespace, *job_ids: str | None) -> list[tuple[RunEvent, ...]]:
    """The events of each job, in the order of writing; of the latest job for `None`.

    Raises:
        NotFoundError: There is no such job, or none at all.
        StoreError: The store cannot be read.
    """
    events_by_job: list[tuple[RunEvent, ...]] = []
    for job_id in job_ids:
        async with open_store(sqlite_url(find_store(options, JobSelector(job_id=job_id)))) as store:
            _, events = await store.events(job_id or (await find_job(store, None)).id)
            events_by_job.append(events)
    return events_by_job


async def follow_job(
    reader: JobLogReader,
    clock: Clock,
    show: Callable[[tuple[RecordedEvent, ...]], bool],
) -> None:
    """Show events until the job has stopped and all are shown, or `show` returns false.

    Args:
        reader: The job, not yet read.
        clock: Waits between two polls.
        show: Receives new events; returns whether to continue.

    Raises:
        NotFoundError: There is no such job.
        StoreError: The store cannot be read.
    """
    while show(await reader.read_new()) and not reader.has_stopped:
        await clock.sleep(POLL_SECONDS)
