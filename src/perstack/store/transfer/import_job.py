"""Jobs of other stores: how their events come into this one."""

from collections.abc import Sequence
from typing import Literal

import anyio

from perstack.core.events import RunEvent
from perstack.errors import JobStateError, NotFoundError
from perstack.runtime.ports import Store

ImportOutcome = Literal["added", "extended", "unchanged"]


async def import_events(store: Store, job_id: str, events: Sequence[RunEvent]) -> ImportOutcome:
    """Write down the events of a job as another store has them.

    A job that is here already gets what it lacks, if it is the same job at an earlier moment.

    Returns:
        Whether the job is new, has got longer, or was as far already.

    Raises:
        JobStateError: The job exists with other events, or a process drives it.
        StoreError: The events do not make a job, or the store cannot be written.
    """
    if not _missing_events(job_id, await _stored_events(store, job_id), events):
        return "unchanged"
    lease = await store.acquire(job_id)
    try:
        # Checked again under the lease, when no other process writes.
        stored = await _stored_events(store, job_id)
        missing = _missing_events(job_id, stored, events)
        if missing:
            await store.append(missing, lease)
    finally:
        with anyio.CancelScope(shield=True):
            await store.release(lease)
    if not missing:
        return "unchanged"
    return "extended" if stored else "added"


async def _stored_events(store: Store, job_id: str) -> tuple[RunEvent, ...]:
    try:
        _, events = await store.events(job_id)
    except NotFoundError:
        return ()
    return events


def _missing_events(
    job_id: str, stored: Sequence[RunEvent], events: Sequence[RunEvent]
) -> Sequence[RunEvent]:
    common_length = min(len(stored), len(events))
    for ours, theirs in zip(stored[:common_length], events[:common_length], strict=True):
        if ours != theirs:
            raise JobStateError(
                f"There is another job {job_id} here: event {ours.id} is not the same.",
                hint="Import it into another workspace.",
            )
    return events[common_length:]
