"""What the jobs of a store have used since a moment."""

from perstack.core.events import generation_usage
from perstack.core.messages import Usage
from perstack.runtime.ports import Store

PAGE_SIZE = 100


async def usage_since(store: Store, moment_ms: int) -> Usage:
    """The usage of all generations that ended at `moment_ms`, since the epoch, or later.

    Its US dollars are those that are known: a job with any unknown price counts as nothing.

    Raises:
        StoreError: The store cannot be read.
    """
    total, offset = Usage(), 0
    while True:
        page = await store.jobs(limit=PAGE_SIZE, offset=offset)
        for job in page:
            if job.started_at >= moment_ms:
                total += _with_known_cost(job.usage)
            elif job.updated_at >= moment_ms:
                total += _with_known_cost(await _usage_of_job_since(store, job.id, moment_ms))
        if len(page) < PAGE_SIZE:
            return total
        offset += PAGE_SIZE


async def _usage_of_job_since(store: Store, job_id: str, moment_ms: int) -> Usage:
    _, events = await store.events(job_id)
    newer = (event for event in events if event.stamp.timestamp >= moment_ms)
    return sum(filter(None, map(generation_usage, newer)), Usage())


def _with_known_cost(usage: Usage) -> Usage:
    return usage if usage.cost_usd is not None else usage.model_copy(update={"cost_usd": 0.0})
