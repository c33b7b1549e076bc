"""Resumes orphaned jobs: those whose process ended in the middle of their work."""

from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING

import anyio

from perstack.errors import PerstackError
from perstack.runtime.ports import Clock, Orphan

if TYPE_CHECKING:
    from perstack.engine import Engine

LOG = getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """Which jobs are resumed.

    Attributes:
        max_concurrent: Jobs of one engine that are resumed at the same time.
        max_age_seconds: Jobs without an event for longer are not resumed.
        max_takeovers: A job whose process has died this many times in a row is not resumed: it may
            be the cause.
        lease_expiry_seconds: After which the lease of a process on another host or in another
            container has expired.
    """

    max_concurrent: int = 4
    max_age_seconds: float = 86_400.0
    max_takeovers: int = 3
    lease_expiry_seconds: float = 16.0

    def since_ms(self, clock: Clock) -> int:
        """The time of the oldest event that counts, in milliseconds."""
        return clock.now_ms() - int(self.max_age_seconds * 1000)


async def recover_orphans(engine: "Engine", policy: RecoveryPolicy, clock: Clock) -> None:
    """Resume the orphaned jobs of an engine; returns when they have stopped."""
    seen: set[str] = set()
    slots = anyio.Semaphore(policy.max_concurrent)
    async with anyio.create_task_group() as jobs:
        for seconds in (0.0, policy.lease_expiry_seconds):
            await clock.sleep(seconds)
            for orphan in await _list_orphans(engine, policy.since_ms(clock)):
                if orphan.job_id in seen:
                    continue
                seen.add(orphan.job_id)
                if orphan.takeovers < policy.max_takeovers:
                    jobs.start_soon(_recover_job, engine, orphan.job_id, slots)
                else:
                    LOG.warning(
                        "perstack: job %s is left as it is: it was taken up %d times, and each time"
                        " its process died. Whoever continues it by its id takes it up again.",
                        orphan.job_id,
                        orphan.takeovers,
                    )


async def _list_orphans(engine: "Engine", since_ms: int) -> tuple[Orphan, ...]:
    try:
        return await engine.orphans(since_ms)
    except PerstackError as error:
        LOG.warning("perstack: it is unknown which jobs were left behind: %s", error)
        return ()


async def _recover_job(engine: "Engine", job_id: str, slots: anyio.Semaphore) -> None:
    async with slots:
        try:
            job = await engine.drive(job_id)
            LOG.info("perstack: job %s, left by a process that has ended, goes on.", job_id)
            await job.wait()
        except PerstackError as error:
            LOG.warning("perstack: job %s, left behind, does not go on: %s", job_id, error)
        except Exception:  # the failure of one job must not end the others
            LOG.exception("perstack: job %s, left behind, does not go on", job_id)
