"""Jobs that were left in the middle of their work go on when there is a server again."""

from dataclasses import dataclass
from logging import getLogger
from typing import TYPE_CHECKING

import anyio

from perstack.errors import PerstackError
from perstack.runtime.ports import Clock, Orphan
from perstack.runtime.start_plan import JobRequest

if TYPE_CHECKING:
    from perstack.engine import Engine

LOG = getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPolicy:
    """Which jobs are taken up.

    Attributes:
        max_concurrent: Jobs of one engine that are taken up at the same time.
        max_age_seconds: A job that nothing has happened to for longer is left as it is.
        max_takeovers: A job whose process has died so often in a row is left as it is, for it may
        be the reason.
        lease_expiry_seconds: After which the lease of a process that cannot be seen, such as one in
        another container, has expired.
    """

    max_concurrent: int = 4
    max_age_seconds: float = 86_400.0
    max_takeovers: int = 3
    lease_expiry_seconds: float = 16.0

    def since_ms(self, clock: Clock) -> int:
        """The moment before which jobs are too old."""
        return clock.now_ms() - int(self.max_age_seconds * 1000)


async def recover_orphans(engine: "Engine", policy: RecoveryPolicy, clock: Clock) -> None:
    """Go on with what other processes have left; returns when those jobs have stopped."""
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
            job = await engine.start(JobRequest(job_id=job_id))
            LOG.info("perstack: job %s, left by a process that has ended, goes on.", job_id)
            await job.wait()
        except PerstackError as error:
            LOG.warning("perstack: job %s, left behind, does not go on: %s", job_id, error)
        except Exception:  # one job's trouble must not end the others
            LOG.exception("perstack: job %s, left behind, does not go on", job_id)
