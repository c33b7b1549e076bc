"""What a principal may use at once and in a day, and what they are told when it is too much."""

from dataclasses import dataclass

import anyio
import pytest

from perstack.core.messages import Usage
from perstack.errors import JobStateError
from perstack.server.tenants.limits import DAY_MS, AdmissionController, JobLimits
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio


@dataclass(eq=False)
class FakeEngine:
    """An engine that drives jobs."""

    live_job_ids: tuple[str, ...] = ()
    tokens: int = 0
    cost: float | None = None
    asked_since: int = 0

    async def usage_since(self, moment_ms: int) -> Usage:
        self.asked_since = moment_ms
        await anyio.lowlevel.checkpoint()
        return Usage(total_tokens=self.tokens, cost_usd=self.cost)


async def test_without_limits_everything_is_let_in() -> None:
    admission = AdmissionController(JobLimits(), ManualClock())
    await admission.admit(FakeEngine(tuple(str(number) for number in range(1000)), 10**9))


async def test_a_principal_with_too_many_jobs_is_told_which_they_are() -> None:
    admission = AdmissionController(JobLimits(max_jobs=2), ManualClock())
    await admission.admit(FakeEngine(("one",)))
    with pytest.raises(JobStateError, match=r"2 jobs are running .*: one, two\. Wait for one"):
        await admission.admit(FakeEngine(("one", "two")))
    await admission.admit(FakeEngine())


async def test_of_very_many_jobs_some_are_named() -> None:
    admission = AdmissionController(JobLimits(max_jobs=9), ManualClock())
    with pytest.raises(JobStateError, match=r"9 jobs are .*: 0, 1, 2, 3, 4, …"):
        await admission.admit(FakeEngine(tuple("012345678")))


async def test_all_principals_together_have_a_limit_that_names_nobodys_jobs() -> None:
    admission = AdmissionController(JobLimits(max_total_jobs=3), ManualClock())
    alice, bob = FakeEngine(), FakeEngine()
    await admission.admit(alice)
    alice.live_job_ids = ("a1", "a2", "a3")
    with pytest.raises(JobStateError, match="as many jobs as it can") as refused:
        await admission.admit(bob)
    assert "a1" not in str(refused.value)
    alice.live_job_ids = ("a1", "a2")
    await admission.admit(bob)


async def test_the_tokens_of_a_day_are_counted_back_from_now() -> None:
    clock = ManualClock()
    admission = AdmissionController(JobLimits(max_tokens_per_day=1000), clock)
    engine = FakeEngine(tokens=999)
    await admission.admit(engine)
    assert clock.now - engine.asked_since == DAY_MS
    engine.tokens = 1000
    with pytest.raises(JobStateError, match=r"1,000 tokens in 24 hours is used up \(1,000 used\)"):
        await admission.admit(engine)


async def test_the_dollars_of_a_day_are_counted_as_far_as_they_are_known() -> None:
    admission = AdmissionController(JobLimits(max_cost_per_day=2.5), ManualClock())
    engine = FakeEngine(tokens=10**9)
    await admission.admit(engine)
    engine.cost = 2.49
    await admission.admit(engine)
    engine.cost = 2.5
    with pytest.raises(JobStateError, match=r"\$2\.50 in 24 hours is used up \(\$2\.50 spent\)"):
        await admission.admit(engine)
