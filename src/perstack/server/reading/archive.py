"""Reads what jobs have left behind: how they stand, their events, checkpoints and results.

All of it comes from the store, so it does not matter which process drives a job, and nothing is
shown that was not fit to be stored.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from anyio import to_thread

from perstack.core.checkpoint import Checkpoint
from perstack.core.events import RunEvent
from perstack.errors import NotFoundError
from perstack.server.port import ServedEngine
from perstack.server.reading.addresses import Address, Kind
from perstack.server.reading.documents import Document, JobEntry
from perstack.server.reading.outline import outline
from perstack.server.reading.pages import checkpoint_page, checkpoints_page, events_page, jobs_page
from perstack.server.reading.stories import entry_of, job_document, result_document

Trail = Sequence[tuple[RunEvent, Checkpoint]]

MAX_JOBS = 100
MAX_ENTRIES = 500
COMPLETED_AMONG = 1000
"""How many of the newest jobs are looked through for an id that a client completes."""


class Archive:
    """Answers for one principal, whose engine it is given."""

    def __init__(self, engine: ServedEngine) -> None:
        self._engine = engine
        self._readers: dict[Kind, Callable[[Address], Awaitable[Document]]] = {
            "jobs": self._jobs,
            "job": self._job,
            "events": self._events,
            "checkpoints": self._checkpoints,
            "checkpoint": self._checkpoint,
            "result": self._result,
        }

    async def read(self, address: Address) -> Document:
        """What is at an address of jobs.

        Raises:
            NotFoundError: Nothing is.
            StoreError: The store cannot be read.
        """
        return await self._readers[address.kind](address)

    async def newest(self, limit: int) -> tuple[JobEntry, ...]:
        """The newest jobs.

        Raises:
            StoreError: The store cannot be read.
        """
        return tuple(entry_of(job) for job in await self._engine.jobs(limit=limit))

    async def outline(self, job_id: str) -> str:
        """The events of a job in short, one a line.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        return await to_thread.run_sync(outline, await self._engine.trail(job_id))

    async def job_ids(self, prefix: str, expert_key: str | None) -> list[str]:
        """The ids that begin with `prefix`, of an expert's jobs or of all.

        They are the newest first, and not those of too long ago.

        Raises:
            StoreError: The store cannot be read.
        """
        return [
            job.id
            for job in await self._engine.jobs(limit=COMPLETED_AMONG)
            if job.id.startswith(prefix) and expert_key in (None, job.coordinator_expert_key)
        ]

    async def checkpoint_ids(self, job_id: str, prefix: str) -> list[str]:
        """The ids that begin with `prefix`, newest first; none if there is no such job.

        Raises:
            StoreError: The store cannot be read.
        """
        try:
            trail = await self._engine.trail(job_id)
        except NotFoundError:
            return []
        return [event.id for event, _ in reversed(trail) if event.id.startswith(prefix)]

    async def _jobs(self, address: Address) -> Document:
        offset = address.numbers.get("offset", 0)
        limit = _between(1, address.numbers.get("limit", MAX_JOBS), MAX_JOBS)
        # One more than is shown tells whether there are more.
        found = await self._engine.jobs(limit=limit + 1, offset=offset)
        return jobs_page(found, offset, limit)

    async def _job(self, address: Address) -> Document:
        return job_document(await self._engine.job(address.names["job_id"]))

    async def _result(self, address: Address) -> Document:
        return result_document(await self._engine.job(address.names["job_id"]))

    async def _events(self, address: Address) -> Document:
        return await self._page(address, events_page)

    async def _checkpoints(self, address: Address) -> Document:
        return await self._page(address, checkpoints_page)

    async def _page(
        self, address: Address, render: Callable[[Trail, Address, int], Document]
    ) -> Document:
        trail = await self._engine.trail(address.names["job_id"])
        limit = _between(1, address.numbers.get("limit", MAX_ENTRIES), MAX_ENTRIES)
        return await to_thread.run_sync(partial(render, trail, address, limit))

    async def _checkpoint(self, address: Address) -> Document:
        wanted = address.names["checkpoint_id"]
        for event, checkpoint in await self._engine.trail(address.names["job_id"]):
            if event.id == wanted:
                return await to_thread.run_sync(partial(checkpoint_page, checkpoint, address))
        raise NotFoundError(f"There is no checkpoint {wanted}.")


def _between(least: int, value: int, most: int) -> int:
    return max(least, min(value, most))
