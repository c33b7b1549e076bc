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
        await self._check_token_budget(engine)
        self._engines.add(engine)
        self._check_principal_limit(engine.live_job_ids)
        self._check_total_limit()

    async def _check_token_budget(self, engine: EngineLoad) -> None:
        allowed = self._limits.max_tokens_per_day
        if allowed is None:
            return
        used = await engine.tokens_since(self._clock.now_ms() - DAY_MS)
        if used >= allowed:
            raise JobStateError(
                f"The budget of {allowed:,} tokens in 24 hours is used up ({used:,} used).",
                hint="Try again later.",
            )

    def _check_principal_limit(self, live_job_ids: tuple[str, ...]) -> None:
        allowed = self._limits.max_jobs
        if allowed is None or len(live_job_ids) < allowed:
            return
        jobs = "1 job is" if len(live_job_ids) == 1 else f"{len(live_job_ids)} jobs are"
        named = ", ".join(live_job_ids[:MAX_LISTED_JOBS]) + (
            ", …" if len(live_job_ids) > MAX_LISTED_JOBS else ""
        )
        raise JobStateError(
            f"{jobs} running already, which is as many as you may have at once: {named}.",
            hint="Wait for one of them, or cancel one, and try again.",
        )

    def _check_total_limit(self) -> None:
        allowed = self._limits.max_total_jobs
        if allowed is None:
            return
        if sum(len(engine.live_job_ids) for engine in self._engines) >= allowed:
            raise JobStateError(
                "The server is running as many jobs as it can.", hint="Try again in a minute."
            )
