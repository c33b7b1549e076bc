"""Who may drive a job: leases with a fence, held by processes that may die at any moment."""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from perstack.errors import JobStateError, LeaseLostError
from perstack.runtime.ports import Lease

LEASE_SECONDS = 15.0

IsAlive = Callable[[str], bool]
"""Whether the process that an owner string names may still be working."""


class WallClock(Protocol):
    """The part of the `Clock` port that leases need."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        ...


@dataclass(frozen=True, slots=True)
class Holding:
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
class Ownership:
    """The rules of leases as one process sees them.

    Attributes:
        owner: This process, as `this_process` names it.
        clock: Tells when a lease has expired.
        is_alive: Tells whether another owner may still be working.
    """

    owner: str
    clock: WallClock
    is_alive: IsAlive

    def take(self, job_id: str, held: Holding | None) -> Holding:
        """The record after this process became the owner.

        Raises:
            JobStateError: A living process, maybe this one, drives the job.
        """
        if held is not None and held.owner is not None and self.is_driven(held):
            raise JobStateError(
                f"Job {job_id} is already being driven by {self._describe(held.owner)}.",
                hint="Wait until it stops, or cancel it there, before you continue it here.",
            )
        if held is None:
            return Holding(self.owner, self.lease_end(), fence=1)
        takeovers = 0 if held.owner is None else held.takeovers + 1
        return Holding(self.owner, self.lease_end(), held.fence + 1, takeovers)

    def keep(self, held: Holding) -> Holding:
        """The record after its owner renewed the lease."""
        return replace(held, lease_until=self.lease_end())

    def is_driven(self, held: Holding | None) -> bool:
        """Whether somebody holds the job, within the lease's time and alive."""
        if held is None or held.owner is None or held.lease_until <= self.clock.now_ms():
            return False
        return held.owner == self.owner or self.is_alive(held.owner)

    def check(self, lease: Lease, held: Holding | None) -> Holding:
        """Make sure that `lease` is the one on record, and return that.

        An expired lease that nobody took is still good: a slow process is not a lost one.

        Raises:
            LeaseLostError: The job was given back or taken over.
        """
        if held is None or (held.owner, held.fence) != (lease.owner, lease.fence):
            raise LeaseLostError(
                f"Job {lease.job_id} is no longer driven by this process.",
                hint="Another process may have taken it over; attach to the job to follow it.",
            )
        return held

    def lease_end(self) -> int:
        """When a lease that begins now expires, in milliseconds since the epoch."""
        return self.clock.now_ms() + int(LEASE_SECONDS * 1000)

    def _describe(self, owner: str) -> str:
        if owner == self.owner:
            return "this process"
        host, pid, _ = _split(owner)
        place = "this machine" if host == _host() else "another machine"
        return f"process {pid} on {place}"


def this_process() -> str:
    """Names this process: its machine, its process id, and when it started, as ids are reused."""
    pid = os.getpid()
    return f"{_host()}:{pid}:{_started(pid) or ''}"


def process_is_alive(owner: str) -> bool:
    """Whether the owner may be working; of other machines that is assumed until the lease ends."""
    host, pid, started = _split(owner)
    if host != _host() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists and belongs to somebody else
    now = _started(int(pid))
    return now is None or not started or now == started


def _split(owner: str) -> tuple[str, str, str]:
    host, _, rest = owner.partition(":")
    pid, _, started = rest.partition(":")
    return host, pid, started


def _host() -> str:
    # Two containers may share a host name, and process ids mean nothing across their border or
    # across a reboot; where the kernel says which is which, the name includes it.
    boot = _read(Path("/proc/sys/kernel/random/boot_id")).strip()
    try:
        space = str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        space = ""
    return "/".join(part for part in (platform.node().replace(":", "-"), boot, space) if part)


def _started(pid: int) -> str | None:
    """Start time in kernel ticks, `dead` for one that only waits to be reaped, else `None`."""
    # The command in parentheses may hold spaces and parentheses; what follows the last is fixed.
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    if len(fields) <= _START_TIME:
        return None
    return "dead" if fields[0] in {"Z", "X"} else fields[_START_TIME]


_START_TIME = 19


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
