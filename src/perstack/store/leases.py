"""Who may drive a job: leases with a fence, held by processes that may die at any moment."""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from perstack.errors import JobStateError, LeaseLostError
from perstack.runtime.ports import Lease, SystemClock

LEASE_SECONDS = 15.0

IsAlive = Callable[[str], bool]
"""Whether the process that an owner string names may still be working."""


class WallClock(Protocol):
    """The part of the `Clock` port that leases need."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class EvenClock:
    """A clock that no correction of the machine's clock moves and that stands while it sleeps.

    All processes that use a store must have the same offset: else one would take a lease for
    expired that another has just renewed.

    Attributes:
        offset_ms: What time since boot is added to, in milliseconds since the epoch.
    """

    offset_ms: int

    @classmethod
    def beginning_at(cls, now_ms: int) -> "EvenClock":
        return cls(now_ms - _monotonic_ms())

    def now_ms(self) -> int:
        return self.offset_ms + _monotonic_ms()


def even_clock(clock: WallClock, offset_of: Callable[[int], int] | None = None) -> WallClock:
    """The clock for leases: another one than the machine's, which may jump.

    Args:
        clock: The machine's; any other is taken as it is.
        offset_of: Replaces the offset by the one that is common to all processes.
    """
    if not isinstance(clock, SystemClock):
        return clock
    beginning = EvenClock.beginning_at(clock.now_ms())
    return beginning if offset_of is None else EvenClock(offset_of(beginning.offset_ms))


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What is on record about the driver of a job.

    Attributes:
        owner: The process that took it; `None` means that it was given back.
        lease_until: When the lease expires, in milliseconds since the epoch.
        fence: Grows with each new owner.
        takeovers: How often in a row it was taken from an owner that had not given it back.
    """

    owner: str | None
    lease_until: int
    fence: int
    takeovers: int = 0


@dataclass(frozen=True, slots=True)
class LeasePolicy:
    """The rules of leases as one process sees them.

    Attributes:
        owner: This process, as `this_process` names it.
        clock: Decides when a lease has expired.
        is_alive: Whether another owner may still be working.
    """

    owner: str
    clock: WallClock
    is_alive: IsAlive

    def acquire(self, job_id: str, record: LeaseRecord | None) -> LeaseRecord:
        """The record after this process became the owner.

        Raises:
            JobStateError: A living process, maybe this one, drives the job.
        """
        if record is not None and record.owner is not None and self.is_driven(record):
            raise JobStateError(
                f"Job {job_id} is already being driven by {self._describe_owner(record.owner)}.",
                hint="Wait until it stops, or cancel it there, before you continue it here.",
            )
        if record is None:
            return LeaseRecord(self.owner, self.new_expiry(), fence=1)
        takeovers = 0 if record.owner is None else record.takeovers + 1
        return LeaseRecord(self.owner, self.new_expiry(), record.fence + 1, takeovers)

    def renew(self, record: LeaseRecord) -> LeaseRecord:
        """The record after its owner renewed the lease."""
        return replace(record, lease_until=self.new_expiry())

    def is_driven(self, record: LeaseRecord | None) -> bool:
        """Whether a live owner holds an unexpired lease of the job."""
        if record is None or record.owner is None or record.lease_until <= self.clock.now_ms():
            return False
        return record.owner == self.owner or self.is_alive(record.owner)

    def check(self, lease: Lease, record: LeaseRecord | None) -> LeaseRecord:
        """Make sure that `lease` is the one on record, and return that.

        An expired lease stays valid until another owner takes it: slow is not lost.

        Raises:
            LeaseLostError: The job was given back or taken over.
        """
        if record is None or (record.owner, record.fence) != (lease.owner, lease.fence):
            raise LeaseLostError(
                f"Job {lease.job_id} is no longer driven by this process.",
                hint="Another process may have taken it over; attach to the job to follow it.",
            )
        return record

    def new_expiry(self) -> int:
        """When a lease that begins now expires, in milliseconds since the epoch."""
        return self.clock.now_ms() + int(LEASE_SECONDS * 1000)

    def _describe_owner(self, owner: str) -> str:
        if owner == self.owner:
            return "this process"
        host, pid, _ = _parse_owner(owner)
        location = "this machine" if host == _host_id() else "another machine"
        return f"process {pid} on {location}"


def current_owner() -> str:
    """Names this process: its machine, its process id, and when it started, as ids are reused."""
    pid = os.getpid()
    return f"{_host_id()}:{pid}:{_process_start_time(pid) or ''}"


def process_is_alive(owner: str) -> bool:
    """Whether the owner may be working; of other machines that is assumed until the lease ends."""
    host, pid, recorded_start = _parse_owner(owner)
    if host != _host_id() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to another user
    current_start = _process_start_time(int(pid))
    return current_start is None or not recorded_start or current_start == recorded_start


def _parse_owner(owner: str) -> tuple[str, str, str]:
    host, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    return host, pid, started


def _host_id() -> str:
    # Two containers may share a host name, and process ids mean nothing across their border or
    # across a reboot; where the kernel says which is which, the name includes it.
    try:
        pid_namespace = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        pid_namespace = ""
    return "/".join(
        part for part in (platform.node().replace(":", "-"), boot_id(), pid_namespace) if part
    )


def boot_id() -> str:
    """What tells this boot of the machine from others; empty where the system does not say."""
    return _read_text(Path("/proc/sys/kernel/random/boot_id")).strip()


def _process_start_time(pid: int) -> str | None:
    """Start time in kernel ticks, `dead` for one that only waits to be reaped, else `None`."""
    # The command in parentheses may hold spaces and parentheses; what follows the last is fixed.
    fields = _read_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if len(fields) <= _START_TIME_FIELD:
        return None
    return "dead" if fields[0] in {"Z", "X"} else fields[_START_TIME_FIELD]


_START_TIME_FIELD = 19


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
