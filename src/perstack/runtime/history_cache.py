"""Caches the folded histories of jobs, so that repeated reads fold only new events."""

from collections import OrderedDict
from dataclasses import dataclass, field

import anyio
from anyio import to_thread

from perstack.core.history import JobHistory, RecordedEvent
from perstack.runtime.ports import Store

MAX_CACHED_JOBS = 4
"""A history holds every checkpoint of its job, so only the most recently read are kept."""


@dataclass(slots=True)
class _CacheEntry:
    history: JobHistory = field(default_factory=JobHistory)
    position: int = 0
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class JobHistoryCache:
    """Histories of the jobs of one store, least recently used dropped first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: OrderedDict[str, _CacheEntry] = OrderedDict()

    async def get(self, job_id: str) -> list[RecordedEvent]:
        """The history of a job as the store has it now.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        entry = self._entries.pop(job_id, None) or _CacheEntry()
        self._entries[job_id] = entry
        async with entry.lock:
            try:
                position, events = await self._store.events(job_id, entry.position)
                # The thread keeps running when its caller is cancelled; the lock must be held until
                # it ends.
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(entry.history.extend, events)
            except Exception:
                self._entries.pop(job_id, None)
                raise
            entry.position = position
            while len(self._entries) > MAX_CACHED_JOBS:
                self._entries.popitem(last=False)
            return list(entry.history.recorded_events)
