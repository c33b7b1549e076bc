"""Ending jobs that this process does not drive."""

from contextlib import suppress

import anyio

from perstack.core import events as ev
from perstack.errors import JobStateError
from perstack.runtime.ports import Clock, Store
from perstack.runtime.start_plan import rebuild_state

STOP_POLLS = 20
STOP_POLL_SECONDS = 0.5
"""How often, and at which interval, the job is polled after a stop request."""

CANCELLABLE_STATUSES = (
    "init",
    "proceeding",
    "stoppedByDelegate",
    "stoppedByInteractiveTool",
    "stoppedByCancellation",
)


async def withdraw_request(store: Store, job_id: str) -> None:
    """Drop the accepted request of a job that no process drives.

    Raises:
        StoreError: The store cannot be read or written.
    """
    if await store.request(job_id) is None:
        return
    # A process that drives the job meanwhile is asked to stop it, as any other.
    with suppress(JobStateError), anyio.CancelScope(shield=True):
        await store.release(await store.acquire(job_id))


async def request_remote_cancel(store: Store, clock: Clock, job_id: str, reason: str) -> None:
    """Have the process that drives a job stop it. A job that no process drives does not change.

    Raises:
        NotFoundError: There is no such job.
        JobStateError: The process does not stop it although it was asked to.
        StoreError: The store cannot be read or written.
    """
    if not await _is_running(store, job_id) or not await store.request_stop(job_id, reason):
        return
    for _ in range(STOP_POLLS):
        await clock.sleep(STOP_POLL_SECONDS)
        if not await _is_running(store, job_id):
            return
    raise JobStateError(
        f"Job {job_id} is driven by another process, which was asked to stop it but has not.",
        hint="Look again later, or end that process; the job can be continued then.",
    )


async def mark_cancelled(
    store: Store, clock: Clock, job_id: str, reason: str, *, activation_id: str
) -> None:
    """Record that a job is cancelled which waits, or which was left in the middle of its work.

    It stays resumable. A finished one does not change.

    Raises:
        NotFoundError: There is no such job.
        JobStateError: A process drives it.
        StoreError: The store cannot be read or written.
    """
    await store.summary(job_id)  # a job that does not exist gets no lease
    lease = await store.acquire(job_id)
    try:
        root = rebuild_state(await store.load(job_id)).root
        if root.status in CANCELLABLE_STATUSES:
            stamp = ev.Stamp(
                job_id=job_id,
                run_id=root.run_id,
                expert_key=root.expert.key,
                step_number=root.step_number,
                sequence=root.sequence + 1,
                timestamp=clock.now_ms(),
            )
            event = ev.StopRunByCancellation(
                stamp=stamp, reason=reason, activation_id=activation_id
            )
            await store.append([event], lease)
    finally:
        with anyio.CancelScope(shield=True):
            await store.release(lease)


async def _is_running(store: Store, job_id: str) -> bool:
    return (await store.summary(job_id)).status == "running"
