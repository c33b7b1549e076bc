"""How many tokens the jobs of a store have used since a moment."""

from perstack.core.events import RunEvent, generation_usage
from perstack.runtime.ports import Store

PAGE_SIZE = 100


async def tokens_since(store: Store, moment_ms: int) -> int:
    """The tokens of all generations that ended at `moment_ms`, since the epoch, or later.

    Raises:
        StoreError: The store cannot be read.
    """
    tokens, offset = 0, 0
    while True:
        page = await store.jobs(limit=PAGE_SIZE, offset=offset)
        for job in page:
            if job.started_at >= moment_ms:
                tokens += job.usage.total_tokens
            elif job.updated_at >= moment_ms:
                _, events = await store.events(job.id)
                tokens += sum(
                    _event_tokens(event) for event in events if event.stamp.timestamp >= moment_ms
                )
        if len(page) < PAGE_SIZE:
            return tokens
        offset += PAGE_SIZE


def _event_tokens(event: RunEvent) -> int:
    usage = generation_usage(event)
    return 0 if usage is None else usage.total_tokens
