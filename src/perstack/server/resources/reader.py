"""Reads what jobs have left behind: how they stand, their events, checkpoints and results.

All of it comes from the store, so it does not matter which process drives a job, and nothing is
shown that was not fit to be stored.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent
from perstack.errors import NotFoundError
from perstack.server.resources.documents import (
    checkpoint_page,
    checkpoints_page,
    events_page,
    job_document,
    jobs_page,
    listing_entry,
    outline_events,
    result_document,
)
from perstack.server.resources.uris import ResourceKind, ResourceUri
from perstack.server.summaries import Document, JobEntry

if TYPE_CHECKING:
    from perstack.engine import Engine

RecordedEvents = Sequence[tuple[RunEvent, Checkpoint]]

MAX_JOBS = 100
MAX_ENTRIES = 500
MAX_JOBS_SEARCHED = 1000
"""How many of the newest jobs are looked through for an id that a client completes."""


class ResourceReader:
    """Answers for one principal, whose engine it is given."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._readers: dict[ResourceKind, Callable[[ResourceUri], Awaitable[Document]]] = {
            "jobs": self._read_jobs,
            "job": self._read_job,
            "events": self._read_events,
            "checkpoints": self._read_checkpoints,
            "checkpoint": self._read_checkpoint,
            "result": self._read_result,
        }

    async def read(self, uri: ResourceUri) -> Document:
        """What is at an address of jobs.

        Raises:
            NotFoundError: Nothing is.
            StoreError: The store cannot be read.
        """
        return await self._readers[uri.kind](uri)

    async def newest_jobs(self, limit: int) -> tuple[JobEntry, ...]:
        """The newest jobs.

        Raises:
            StoreError: The store cannot be read.
        """
        return tuple(listing_entry(job) for job in await self._engine.jobs(limit=limit))

    async def outline(self, job_id: str) -> str:
        """The events of a job in short, one a line.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        return await to_thread.run_sync(outline_events, await self._engine.history(job_id))

    async def job_ids(self, prefix: str, expert_key: str | None) -> list[str]:
        """The ids that begin with `prefix`, of an expert's jobs or of all.

        They are the newest first, and not those of too long ago.

        Raises:
            StoreError: The store cannot be read.
        """
        return [
            job.id
            for job in await self._engine.jobs(limit=MAX_JOBS_SEARCHED)
            if job.id.startswith(prefix) and expert_key in (None, job.coordinator_expert_key)
        ]

    async def checkpoint_ids(self, job_id: str, prefix: str) -> list[str]:
        """The ids that begin with `prefix`, newest first; none if there is no such job.

        Raises:
            StoreError: The store cannot be read.
        """
        try:
            events = await self._engine.history(job_id)
        except NotFoundError:
            return []
        return [event.id for event, _ in reversed(events) if event.id.startswith(prefix)]

    async def _read_jobs(self, uri: ResourceUri) -> Document:
        offset = uri.query_params.get("offset", 0)
        limit = _clamp(1, uri.query_params.get("limit", MAX_JOBS), MAX_JOBS)
        # One more than is shown tells whether there are more.
        jobs = await self._engine.jobs(limit=limit + 1, offset=offset)
        return jobs_page(jobs, offset, limit)

    async def _read_job(self, uri: ResourceUri) -> Document:
        return job_document(await self._engine.job(uri.path_params["job_id"]))

    async def _read_result(self, uri: ResourceUri) -> Document:
        return result_document(await self._engine.job(uri.path_params["job_id"]))

    async def _read_events(self, uri: ResourceUri) -> Document:
        return await self._read_page(uri, events_page)

    async def _read_checkpoints(self, uri: ResourceUri) -> Document:
        return await self._read_page(uri, checkpoints_page)

    async def _read_page(
        self, uri: ResourceUri, render: Callable[[RecordedEvents, ResourceUri, int], Document]
    ) -> Document:
        events = await self._engine.history(uri.path_params["job_id"])
        limit = _clamp(1, uri.query_params.get("limit", MAX_ENTRIES), MAX_ENTRIES)
        return await to_thread.run_sync(partial(render, events, uri, limit))

    async def _read_checkpoint(self, uri: ResourceUri) -> Document:
        checkpoint_id = uri.path_params["checkpoint_id"]
        for event, checkpoint in await self._engine.history(uri.path_params["job_id"]):
            if event.id == checkpoint_id:
                return await to_thread.run_sync(partial(checkpoint_page, checkpoint, uri))
        raise NotFoundError(f"There is no checkpoint {checkpoint_id}.")


def _clamp(minimum: int, value: int, maximum: int) -> int:
    return max(minimum, min(value, maximum))
