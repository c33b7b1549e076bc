"""Limits on the jobs of one principal, and on those of all principals together."""

from dataclasses import dataclass
from weakref import WeakSet

from perstack.core.messages import Usage
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
        max_cost_per_day: US dollars of one principal in 24 hours, as far as prices are known.
    """

    max_jobs: int | None = None
    max_total_jobs: int | None = None
    max_tokens_per_day: int | None = None
    max_cost_per_day: float | None = None


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
        if limits.max_tokens_per_day is not None or limits.max_cost_per_day is not None:
            _check_day(limits, await engine.usage_since(self._clock.now_ms() - DAY_MS))
        self._engines.add(engine)
        if limits.max_jobs is not None and len(engine.live_job_ids) >= limits.max_jobs:
            raise _principal_limit_error(engine.live_job_ids)
        if limits.max_total_jobs is not None and limits.max_total_jobs <= sum(
            len(admitted.live_job_ids) for admitted in self._engines
        ):
            raise JobStateError(
                "The server is running as many jobs as it can.", hint="Try again in a minute."
            )


def _check_day(limits: JobLimits, used: Usage) -> None:
    tokens, cost = limits.max_tokens_per_day, limits.max_cost_per_day
    spent = used.cost_usd or 0.0
    if tokens is not None and used.total_tokens >= tokens:
        message = f"{tokens:,} tokens in 24 hours is used up ({used.total_tokens:,} used)."
    elif cost is not None and spent >= cost:
        message = f"${cost:,.2f} in 24 hours is used up (${spent:,.2f} spent)."
    else:
        return
    raise JobStateError(f"The budget of {message}", hint="Try again later.")


def _principal_limit_error(job_ids: tuple[str, ...]) -> JobStateError:
    jobs = "1 job is" if len(job_ids) == 1 else f"{len(job_ids)} jobs are"
    listed = ", ".join(job_ids[:MAX_LISTED_JOBS])
    ellipsis = ", …" if len(job_ids) > MAX_LISTED_JOBS else ""
    return JobStateError(
        f"{jobs} running already, which is as many as you may have at once: {listed}{ellipsis}.",
        hint="Wait for one of them, or cancel one, and try again.",
    )
