"""A store that ends with its process: for tests, and for runs that nobody wants to keep."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from perstack.core.checkpoint import Job, JobStatus
from perstack.core.events import RunEvent
from perstack.errors import no_job
from perstack.runtime.clock import SystemClock
from perstack.runtime.ports import JobRecord, Lease, Orphan
from perstack.store.ownership import (
    Holding,
    IsAlive,
    Ownership,
    WallClock,
    process_is_alive,
    this_process,
)
from perstack.store.projection import Ledger, by_run, enter, shown


@dataclass(slots=True)
class _Data:
    ledgers: dict[str, Ledger] = field(default_factory=dict[str, Ledger])
    holdings: dict[str, Holding] = field(default_factory=dict[str, Holding])
    to_stop: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    events: list[RunEvent] = field(default_factory=list[RunEvent])


class MemoryStore:
    """Satisfies the `Store` port without a disk.

    Args:
        owner: Who takes leases through this store; this process by default.
        clock: Tells when leases expire.
        is_alive: Tells whether another owner may still be working.
    """

    def __init__(
        self,
        *,
        owner: str | None = None,
        clock: WallClock | None = None,
        is_alive: IsAlive = process_is_alive,
    ) -> None:
        self._ownership = Ownership(owner or this_process(), clock or SystemClock(), is_alive)
        self._data = _Data()

    def seen_by(self, owner: str) -> "MemoryStore":
        """The same store in the hands of another owner."""
        ownership = self._ownership
        other = MemoryStore(owner=owner, clock=ownership.clock, is_alive=ownership.is_alive)
        other._data = self._data
        return other

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        self._ownership.check(lease, self._data.holdings.get(lease.job_id))
        ledger = self._data.ledgers.get(lease.job_id)
        for event in events:
            if event.stamp.job_id != lease.job_id:
                raise ValueError(f"event {event.id} is not of job {lease.job_id}")
            ledger = enter(ledger, event)
        if ledger is not None:
            self._data.ledgers[lease.job_id] = ledger
            self._data.events.extend(events)

    async def acquire(self, job_id: str) -> Lease:
        held = self._ownership.take(job_id, self._data.holdings.get(job_id))
        self._data.holdings[job_id] = held
        return Lease(job_id, self._ownership.owner, held.fence)

    async def renew(self, lease: Lease) -> None:
        held = self._ownership.check(lease, self._data.holdings.get(lease.job_id))
        self._data.holdings[lease.job_id] = self._ownership.keep(held)

    async def release(self, lease: Lease) -> None:
        held = self._data.holdings.get(lease.job_id)
        if held is not None and (held.owner, held.fence) == (lease.owner, lease.fence):
            self._data.holdings[lease.job_id] = Holding(None, 0, lease.fence)

    async def ask_to_stop(self, job_id: str, reason: str) -> bool:
        held = self._data.holdings.get(job_id)
        if held is None or not self._ownership.is_driven(held):
            return False
        self._data.to_stop[job_id] = (held.fence, reason)
        return True

    async def asked_to_stop(self) -> dict[str, str]:
        return {
            job_id: reason
            for job_id, (fence, reason) in self._data.to_stop.items()
            if (held := self._data.holdings.get(job_id)) is not None
            and (held.owner, held.fence) == (self._ownership.owner, fence)
        }

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        return tuple(
            Orphan(job.id, held.takeovers if (held := self._data.holdings.get(job.id)) else 0)
            for job in await self.jobs(status="interrupted", limit=len(self._data.ledgers))
            if job.updated_at >= since_ms
        )

    async def load(self, job_id: str) -> JobRecord:
        _, events = await self.events(job_id)
        return JobRecord(self._shown(self._data.ledgers[job_id]), by_run(events))

    async def events(self, job_id: str, after: int = 0) -> tuple[int, tuple[RunEvent, ...]]:
        if job_id not in self._data.ledgers:
            raise no_job(job_id)
        placed = [
            (position, event)
            for position, event in enumerate(self._data.events, start=1)
            if position > after and event.stamp.job_id == job_id
        ]
        return placed[-1][0] if placed else after, tuple(event for _, event in placed)

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        expert_key: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[Job, ...]:
        # Of jobs that began in the same millisecond, the one written later is the newer.
        oldest = sorted(self._data.ledgers.values(), key=lambda ledger: ledger.job.started_at)
        matching = [
            job
            for job in map(self._shown, reversed(oldest))
            if status in {None, job.status} and expert_key in {None, job.coordinator_expert_key}
        ]
        return tuple(matching[offset : offset + limit])

    def _shown(self, ledger: Ledger) -> Job:
        held = self._data.holdings.get(ledger.job.id)
        return shown(ledger.job, is_driven=self._ownership.is_driven(held))
