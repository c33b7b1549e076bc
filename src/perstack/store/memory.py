"""A store that ends with its process: for tests and for runs that are not kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from perstack.core.checkpoint import Job, JobStatus
from perstack.core.events import RecordToolResult, RunEvent
from perstack.errors import job_not_found, request_pending
from perstack.runtime.ports import JobRecord, Lease, Orphan, SystemClock, TaskRecord
from perstack.store.leases import (
    IsAlive,
    LeasePolicy,
    LeaseRecord,
    WallClock,
    current_owner,
    even_clock,
    process_is_alive,
)
from perstack.store.projection import JobProjection, apply_events, group_by_run, with_interrupted


@dataclass(slots=True)
class _Data:
    projections: dict[str, JobProjection] = field(default_factory=dict[str, JobProjection])
    lease_records: dict[str, LeaseRecord] = field(default_factory=dict[str, LeaseRecord])
    stop_requests: dict[str, tuple[int, str]] = field(default_factory=dict[str, tuple[int, str]])
    requests: dict[str, tuple[int, dict[str, Any]]] = field(
        default_factory=dict[str, tuple[int, dict[str, Any]]]
    )
    tasks: dict[str, TaskRecord] = field(default_factory=dict[str, TaskRecord])
    events: list[RunEvent] = field(default_factory=list[RunEvent])


class MemoryStore:
    """Satisfies the `Store` port without a disk.

    Args:
        owner: Who takes leases through this store; this process by default.
        clock: Decides when leases expire.
        is_alive: Whether another owner may still be working.
    """

    def __init__(
        self,
        *,
        owner: str | None = None,
        clock: WallClock | None = None,
        is_alive: IsAlive = process_is_alive,
    ) -> None:
        self._lease_policy = LeasePolicy(
            owner or current_owner(), even_clock(clock or SystemClock()), is_alive
        )
        self._data = _Data()

    def as_owner(self, owner: str) -> "MemoryStore":
        """The same store in the hands of another owner."""
        lease_policy = self._lease_policy
        other = MemoryStore(owner=owner, clock=lease_policy.clock, is_alive=lease_policy.is_alive)
        other._data = self._data
        return other

    async def append(self, events: Sequence[RunEvent], lease: Lease) -> None:
        self._lease_policy.check(lease, self._data.lease_records.get(lease.job_id))
        projection = self._data.projections.get(lease.job_id)
        for event in events:
            if event.stamp.job_id != lease.job_id:
                raise ValueError(f"event {event.id} is not of job {lease.job_id}")
        projection = apply_events(projection, events)
        if projection is not None:
            self._data.projections[lease.job_id] = projection
            self._data.events.extend(events)
            self._data.requests.pop(lease.job_id, None)

    async def submit_request(self, job_id: str, request: dict[str, Any]) -> None:
        self._lease_policy.acquire(job_id, self._data.lease_records.get(job_id))
        pending = await self.request(job_id)
        if pending is not None and pending != request:
            raise request_pending(job_id)
        self._data.requests.setdefault(job_id, (self._lease_policy.clock.now_ms(), request))

    async def request(self, job_id: str) -> dict[str, Any] | None:
        _, request = self._data.requests.get(job_id, (0, None))
        return request

    async def acquire(self, job_id: str, request: dict[str, Any] | None = None) -> Lease:
        record = self._lease_policy.acquire(job_id, self._data.lease_records.get(job_id))
        if request is not None:
            await self.submit_request(job_id, request)
        self._data.lease_records[job_id] = record
        return Lease(job_id, self._lease_policy.owner, record.fence)

    async def renew(self, lease: Lease) -> None:
        record = self._lease_policy.check(lease, self._data.lease_records.get(lease.job_id))
        self._data.lease_records[lease.job_id] = self._lease_policy.renew(record)

    async def release(self, lease: Lease, *, keep_request: bool = False) -> None:
        record = self._data.lease_records.get(lease.job_id)
        if record is not None and (record.owner, record.fence) == (lease.owner, lease.fence):
            self._data.lease_records[lease.job_id] = LeaseRecord(None, 0, lease.fence)
            if not keep_request:
                self._data.requests.pop(lease.job_id, None)

    async def request_stop(self, job_id: str, reason: str) -> bool:
        record = self._data.lease_records.get(job_id)
        if record is None or not self._lease_policy.is_driven(record):
            return False
        self._data.stop_requests[job_id] = (record.fence, reason)
        return True

    async def stop_requests(self) -> dict[str, str]:
        return {
            job_id: reason
            for job_id, (fence, reason) in self._data.stop_requests.items()
            if (record := self._data.lease_records.get(job_id)) is not None
            and (record.owner, record.fence) == (self._lease_policy.owner, fence)
        }

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        starts = {
            job_id: created_at
            for job_id, (created_at, _) in self._data.requests.items()
            if created_at >= since_ms
        } | {
            job.id: job.started_at
            for job in await self.jobs(status="interrupted", limit=len(self._data.projections))
            if job.updated_at >= since_ms
        }
        return tuple(
            Orphan(job_id, record.takeovers if record is not None else 0)
            for job_id in sorted(starts, key=lambda job_id: starts[job_id], reverse=True)
            if not self._lease_policy.is_driven(record := self._data.lease_records.get(job_id))
        )

    async def load(self, job_id: str) -> JobRecord:
        _, events = await self.events(job_id)
        return JobRecord(await self.summary(job_id), group_by_run(events))

    async def summary(self, job_id: str) -> Job:
        projection = self._data.projections.get(job_id)
        if projection is None:
            raise job_not_found(job_id)
        return self._job_summary(projection)

    async def events(self, job_id: str, after: int = 0) -> tuple[int, tuple[RunEvent, ...]]:
        if job_id not in self._data.projections:
            raise job_not_found(job_id)
        positioned = [
            (position, event)
            for position, event in enumerate(self._data.events, start=1)
            if position > after and event.stamp.job_id == job_id
        ]
        return positioned[-1][0] if positioned else after, tuple(event for _, event in positioned)

    async def shortened_results(
        self, job_id: str, tool_call_id: str
    ) -> tuple[RecordToolResult, ...]:
        return tuple(
            event
            for event in self._data.events
            if isinstance(event, RecordToolResult)
            and (event.stamp.job_id, event.tool_result.id) == (job_id, tool_call_id)
            and event.whole_text is not None
        )

    async def jobs(
        self,
        *,
        status: JobStatus | None = None,
        expert_key: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> tuple[Job, ...]:
        # Of jobs that began in the same millisecond, the one written later is the newer.
        oldest_first = sorted(
            self._data.projections.values(), key=lambda projection: projection.job.started_at
        )
        matching = [
            job
            for job in map(self._job_summary, reversed(oldest_first))
            if status in {None, job.status} and expert_key in {None, job.coordinator_expert_key}
        ]
        return tuple(matching[offset : offset + limit])

    async def create_task(self, task: TaskRecord) -> bool:
        return self._data.tasks.setdefault(task.task_id, task) is task

    async def task(self, task_id: str) -> TaskRecord | None:
        return self._data.tasks.get(task_id)

    async def settle_task(
        self, task_id: str, status: str, payload: dict[str, Any]
    ) -> TaskRecord | None:
        task = self._data.tasks.get(task_id)
        if task is not None and task.status is None:
            task = self._data.tasks[task_id] = replace(task, status=status, payload=payload)
        return task

    def _job_summary(self, projection: JobProjection) -> Job:
        record = self._data.lease_records.get(projection.job.id)
        return with_interrupted(projection.job, is_driven=self._lease_policy.is_driven(record))
