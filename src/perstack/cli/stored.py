"""All events of stored jobs, as they were written."""

from argparse import Namespace
from pathlib import Path

from perstack.cli.history import find_store, open_history
from perstack.core.events import RunEvent
from perstack.errors import NotFoundError


async def stored_events(options: Namespace, *job_ids: str | None) -> list[tuple[RunEvent, ...]]:
    """The events of each job, in the order of writing; of the latest job for `None`.

    Args:
        options: With `workspace` and `config`, which say where the store is.
        job_ids: The jobs.

    Raises:
        NotFoundError: There is no such job, or none at all.
        StoreError: The store cannot be read.
    """
    storage = find_store(options.workspace, options.config, Path.cwd())
    found: list[tuple[RunEvent, ...]] = []
    async with open_history(storage) as store:
        for job_id in job_ids:
            newest = () if job_id else await store.jobs(limit=1)
            known = job_id or (newest[0].id if newest else None)
            if known is None:
                raise NotFoundError("No data found: the store has no job.")
            _, events = await store.events(known)
            found.append(events)
    return found
