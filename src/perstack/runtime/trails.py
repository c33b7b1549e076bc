"""Trails of stored jobs, so that who looks again and again pays for what is new only."""

from collections import OrderedDict
from dataclasses import dataclass, field

import anyio
from anyio import to_thread

from perstack.core.trail import Step, Trail
from perstack.runtime.ports import Store

KEPT = 4
"""A trail has every checkpoint of its job, so only those of the jobs read last are kept."""


@dataclass(slots=True)
class _Reading:
    trail: Trail = field(default_factory=Trail)
    position: int = 0
    one_at_a_time: anyio.Lock = field(default_factory=anyio.Lock)


class Trails:
    """The trails of the jobs of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readings: OrderedDict[str, _Reading] = OrderedDict()

    async def of(self, job_id: str) -> list[Step]:
        """The trail of a job as the store has it now.

        Raises:
            NotFoundError: There is no such job.
            StoreError: The store cannot be read.
        """
        reading = self._readings.pop(job_id, None) or _Reading()
        self._readings[job_id] = reading
        async with reading.one_at_a_time:
            try:
                position, events = await self._store.events(job_id, reading.position)
                # A thread goes on when its caller is cancelled, so what it works on must not be
                # what the next caller finds.
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(reading.trail.extend, events)
            except Exception:
                self._readings.pop(job_id, None)
                raise
            reading.position = position
            while len(self._readings) > KEPT:
                self._readings.popitem(last=False)
            return list(reading.trail.steps)
