"""Reads jobs as resources.

Everything comes from the store, so the answer does not depend on which process drives a job, and
has nothing that was not stored.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from anyio import to_thread

from perstack.errors import NotFoundError
from perstack.jobs import JobView
from perstack.server.resources.documents import (
    RecordedEvents,
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

MAX_JOBS = 100
MAX_ENTRIES = 500
MAX_JOBS_SEARCHED = 1000
"""How many of the newest jobs are searched for ids that complete a prefix."""


class ResourceReader:
    """Reads the jobs of one tenant."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._readers: dict[ResourceKind, Callable[[ResourceUri], Awaitable[Document]]] = {
            "jobs": self._read_jobs,
            "job": partial(self._read_view, job_document),
            "events": partial(self._read_page, events_page),
            "checkpoints": partial(self._read_page, checkpoints_page),
            "checkpoint": self._read_checkpoint,
            "result": partial(self._read_view, result_document),
        }

    async def read(self, uri: ResourceUri) -> Document:
        """Read a resource of jobs.

        Raises:
            NotFoundError: There is no such resource.
            StoreError: The store cannot be read.
        """
        return await self._readers[uri.kind](uri)

    async def newest_jobs(self, limit: int) -> tuple[JobEntry, ...]:
        """The newest jobs for a listing.

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
        """The ids of recent jobs that begin with `prefix`, newest first; of one expert or of all.

        Raises:
            StoreError: The store cannot be read.
        """
        return [
            job.id
            for job in await self._engine.jobs(limit=MAX_JOBS_SEARCHED)
            if job.id.startswith(prefix) and expert_key in (None, job.coordinator_expert_key)
        ]

    async def checkpoint_ids(self, job_id: str, prefix: str) -> list[str]:
        """The checkpoint ids that begin with `prefix`, newest first; none if there is no such job.

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
        limit = _page_limit(uri, MAX_JOBS)
        # One more than a page has, to know whether there is a next one.
        jobs = await self._engine.jobs(limit=limit + 1, offset=offset)
        return jobs_page(jobs, offset, limit)

    async def _read_view(self, render: Callable[[JobView], Document], uri: ResourceUri) -> Document:
        return render(await self._engine.job(uri.path_params["job_id"]))

    async def _read_page(
        self, render: Callable[[RecordedEvents, ResourceUri, int], Document], uri: ResourceUri
    ) -> Document:
        events = await self._engine.history(uri.path_params["job_id"])
        return await to_thread.run_sync(render, events, uri, _page_limit(uri, MAX_ENTRIES))

    async def _read_checkpoint(self, uri: ResourceUri) -> Document:
        checkpoint_id = uri.path_params["checkpoint_id"]
        for event, checkpoint in await self._engine.history(uri.path_params["job_id"]):
            if event.id == checkpoint_id:
                return await to_thread.run_sync(checkpoint_page, checkpoint, uri)
        raise NotFoundError(f"There is no checkpoint {checkpoint_id}.")


def _page_limit(uri: ResourceUri, maximum: int) -> int:
    return max(1, min(uri.query_params.get("limit", maximum), maximum))
