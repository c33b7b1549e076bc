"""Limits on the jobs of one principal, and on those of all principals together."""

from dataclasses import dataclass
from weakref import WeakSet

from perstack.errors import JobStateError
from perstack.runtime.ports import Clock
from perstack.settings import EngineLoad

DAY_MS = 24 * 60 * 60 * 1000
MAX_LISTED_JOBS = 5
DEFAULT_MAX_JOBS = 16
DEFAULT_MAX_TOTAL_JOBS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLimits:
    """The limits; `None` is no limit.

    Attributes:
        max_jobs: Jobs of one principal that run at once.
        max_total_jobs: Jobs of all principals that run at once.
        max_tokens_per_day: Tokens of one principal in 24 hours; no job is started or continued once
            they are used.
    """

    max_jobs: int | None = None
    max_total_jobs: int | None = None
    max_tokens_per_day: int | None = None


class AdmissionController:
    """Decides whether one more job may run in this process."""

    def __init__(self, limits: JobLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._engines: WeakSet[EngineLoad] = WeakSet()

    async def admit(self, engine: EngineLoad) -> None:
        """Allow `engine` to drive one more job.

        Raises:
            JobStateError: A limit is reached; the message says what to wait for.
            StoreError: Its store cannot be read.
        """
        limits = self._limits
        if limits.max_tokens_per_day is not None:
            used = await engine.tokens_since(self._clock.now_ms() - DAY_MS)
            if used >= limits.max_tokens_per_day:
                raise JobStateError(
                    f"The budget of {limits.max_tokens_per_day:,} tokens in 24 hours is used up"
                    f" ({used:,} used).",
                    hint="Try again later.",
                )
        self._engines.add(engine)
        if limits.max_jobs is not None and len(engine.live_job_ids) >= limits.max_jobs:
            raise _principal_limit_error(engine.live_job_ids)
        if limits.max_total_jobs is not None and limits.max_total_jobs <= sum(
            len(admitted.live_job_ids) for admitted in self._engines
        ):
            raise JobStateError(
                "The server is running as many jobs as it can.", hint="Try again in a minute."
            )


def _principal_limit_error(job_ids: tuple[str, ...]) -> JobStateError:
    jobs = "1 job is" if len(job_ids) == 1 else f"{len(job_ids)} jobs are"
    listed = ", ".join(job_ids[:MAX_LISTED_JOBS])
    ellipsis = ", …" if len(job_ids) > MAX_LISTED_JOBS else ""
    return JobStateError(
        f"{jobs} running already, which is as many as you may have at once: {listed}{ellipsis}.",
        hint="Wait for one of them, or cancel one, and try again.",
    )
