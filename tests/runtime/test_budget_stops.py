"""What a budget stopped: what is freed, what is told, and how it goes on."""

from dataclasses import replace

import anyio
import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.events import Limits
from perstack.core.history import newest_checkpoints, usage_of_tree
from perstack.core.messages import Usage
from perstack.definition.budget import Budget
from perstack.definition.model import Definitions
from perstack.replay.runner import replay
from perstack.runtime.budget import BudgetAccounts
from perstack.runtime.context import JobStepCounter
from perstack.runtime.ports import Deltas, Generation, GenerationRequest
from tests.fakes import (
    STANDARD_TOOLS,
    FakeModel,
    FakeSkills,
    FakeStore,
    ManualClock,
    Reply,
    call,
    calls,
    done,
    experts,
    job_context,
    tool,
)
from tests.runtime.acting import go_on, work
from tests.runtime.test_budgets import account, steps, told, using, with_budget

pytestmark = pytest.mark.anyio

ONE = experts(a=())
TEAM = experts(a=("a_x", "a_y"), a_x=(), a_y=())
BOTH = calls(call("x", query="1"), call("y", query="2"))
GO_ON = "Budget: this task may use more now."


class SilentDelegate(FakeModel):
    """One expert never gets an answer."""

    def __init__(self, silent: str, replies: dict[str, list[Reply]]) -> None:
        super().__init__(replies)
        self._silent = silent

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        if request.expert_key == self._silent:
            await anyio.sleep_forever()
        return await super().generate(request, deltas)


class LateClock(ManualClock):
    """Sleeps end once the others have done what they can."""

    async def sleep(self, seconds: float) -> None:
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        await super().sleep(seconds)


def renewed(store: FakeStore, limits: Limits) -> BudgetAccounts:
    """A budget of `run1` after what it has used."""
    used = usage_of_tree(newest_checkpoints(store.runs()), "run1")
    accounts = BudgetAccounts((), ManualClock())
    return accounts.open_account("run1", limits, used=used, used_before=used)


async def resumed(
    definitions: Definitions, model: FakeModel, store: FakeStore, budget: BudgetAccounts
) -> Checkpoint:
    """Go on with `run1` in another process."""
    known = newest_checkpoints(store.runs())
    last = max(checkpoint.step_number for checkpoint in known.values())
    job = job_context(
        definitions,
        model,
        store=store,
        known=known,
        budget=budget,
        steps=JobStepCounter(last=last, limit=last + 100),
    )
    with anyio.fail_after(10):
        return await go_on(replace(job, activation_id="two"), known["run1"])


async def test_a_delegate_whose_time_is_over_frees_what_was_reserved_for_its_reply() -> None:
    team = with_budget(TEAM, "@a/x", Budget(max_seconds=5))
    replies: dict[str, list[Reply]] = {
        "a": [using(BOTH, 10), using(done("all"), 10)],
        "@a/y": [using(done("y"), 10)],
    }
    clock = LateClock()
    job = job_context(
        team,
        SilentDelegate("@a/x", replies),
        clock=clock,
        budget=account(clock, tokens=2000),
    )
    with anyio.fail_after(10):
        end = await work(job)
    assert (end.status, end.text) == ("completed", "all")


async def test_the_tools_of_the_first_request_are_a_part_of_what_it_needs() -> None:
    tools = (*STANDARD_TOOLS, tool("t" * 30_000))
    model = FakeModel({"a": [done("never")]})
    job = job_context(ONE, model, skills=FakeSkills(tools_of=tools), budget=account(tokens=5000))
    end = await work(job)
    assert end.exhausted is not None
    assert "The budget of 5,000 tokens is too small: 0 are used" in end.exhausted.message
    assert model.requests == []


async def test_a_generation_that_a_crash_ended_is_reserved_again() -> None:
    whole = FakeStore()
    await work(job_context(ONE, FakeModel({"a": [done("fine")]}), store=whole))
    crashed = FakeStore()
    started = [event.type for event in whole.events_written].index("startGeneration")
    first, *others = whole.events_written[: started + 1]
    crashed.events_written = [first.model_copy(update={"activation_id": "one"}), *others]
    model = FakeModel({"a": [done("never")]})
    end = await resumed(ONE, model, crashed, account(tokens=10))
    assert (end.status, model.requests) == ("stoppedByExceededBudget", [])
    assert (await replay(crashed.events_written, ONE)).divergence is None


async def test_a_run_that_goes_on_without_a_budget_has_no_limits_any_more() -> None:
    store = FakeStore()
    model = FakeModel({"a": steps(8, 3000, done("fine"))})
    await work(job_context(ONE, model, store=store, budget=account(tokens=15_000)))
    final = await resumed(ONE, model, store, BudgetAccounts((), ManualClock()))
    assert (final.status, final.limits) == ("completed", None)
    assert newest_checkpoints(store.runs())["run1"] == final


async def test_an_expert_that_goes_on_with_a_new_budget_is_told_so() -> None:
    store = FakeStore()
    model = FakeModel({"a": steps(16, 3000, done("fine"))})
    await work(job_context(ONE, model, store=store, budget=account(tokens=20_000)))
    final = await resumed(ONE, model, store, renewed(store, Limits(tokens=50_000)))
    before, renewal, later = told(final)[-3:]
    assert "this is the last reply" in before
    assert renewal.startswith(GO_ON)
    assert "this is the last reply" in later


async def test_an_expert_that_gets_more_steps_is_told_so() -> None:
    store = FakeStore()
    model = FakeModel({"a": steps(9, 10, done("fine"))})
    await work(job_context(ONE, model, store=store, max_steps=5))
    final = await resumed(ONE, model, store, BudgetAccounts((), ManualClock()))
    assert "this is the last reply" in told(final)[-2]
    assert told(final)[-1].startswith(GO_ON)


async def test_a_delegate_is_told_of_a_new_budget_of_the_job() -> None:
    store = FakeStore()
    replies = {
        "a": [using(calls(call("x", query="1")), 10), using(done("all"), 10)],
        "@a/x": steps(8, 3000, done("x is done")),
    }
    model = FakeModel(replies)
    await work(job_context(TEAM, model, store=store, budget=account(tokens=16_000)))
    final = await resumed(TEAM, model, store, renewed(store, Limits(tokens=90_000)))
    assert final.text == "all"
    notices = told(newest_checkpoints(store.runs())["run2"])
    assert any(notice.startswith(GO_ON) for notice in notices)


async def test_the_first_stop_in_the_order_of_the_calls_stops_the_run() -> None:
    store = FakeStore()
    replies: dict[str, list[Reply]] = {
        "a": [using(BOTH, 10)],
        "@a/x": list(steps(3, 10, done("x"))),
        "@a/y": [using(calls(call("echo", x=1)), 10), using(done("y"), 10)],
    }
    job = job_context(TEAM, FakeModel(replies), store=store, budget=account(steps=3))
    end = await work(job)
    stopped = newest_checkpoints(store.runs())["run2"]
    assert end.exhausted == stopped.exhausted


async def test_a_delegate_that_goes_on_keeps_to_its_own_budget() -> None:
    store = FakeStore()
    team = with_budget(TEAM, "@a/x", Budget(max_tokens=20_000))
    replies = {
        "a": [using(calls(call("x", query="1")), 10), using(done("all"), 10)],
        "@a/x": steps(20, 3000, done("never")),
    }
    model = FakeModel(replies)
    await work(job_context(team, model, store=store, budget=account(tokens=12_000)))
    final = await resumed(team, model, store, renewed(store, Limits(tokens=90_000)))
    assert final.text == "all"
    delegate = newest_checkpoints(store.runs())["run2"]
    assert delegate.exhausted is not None
    assert "The budget of 20,000 tokens is used up" in delegate.exhausted.message
    assert 15_000 < delegate.usage.total_tokens <= 20_000


async def test_what_was_used_at_an_unknown_price_does_not_lift_a_limit_in_dollars() -> None:
    used = (Usage(input_tokens=900, total_tokens=900), 3)
    accounts = BudgetAccounts((), ManualClock()).open_account(
        "run1", Limits(cost_usd=1.0), used=used, used_before=used
    )
    estimate = Usage(total_tokens=1000, cost_usd=0.75)

    async def nothing() -> None:
        return

    assert await accounts.reserve(estimate, nothing) is None
    accounts.settle(estimate, estimate)
    assert await accounts.reserve(estimate, nothing) is not None


async def test_what_was_said_before_a_reply_that_was_cut_is_counted() -> None:
    long = "x" * 30_000
    cut = Generation(
        text="cut",
        finish_reason="length",
        usage=Usage(input_tokens=10_000, output_tokens=10, total_tokens=10_010),
    )
    looking = using(calls(call("echo", x=long)), 50)
    model = FakeModel({"a": [looking, cut, done("never")]})
    end = await work(job_context(ONE, model, budget=account(tokens=20_000)))
    assert end.status == "stoppedByExceededBudget"


async def test_stops_come_again_in_a_replay_also_where_nothing_was_written_before_them() -> None:
    store = FakeStore()
    planning = [using(calls(call("todo", f"t{each}", newTodos=["one"])), 3000) for each in range(9)]
    model = FakeModel({"a": planning})
    await work(job_context(ONE, model, store=store, budget=account(tokens=10_000)))
    await resumed(ONE, model, store, renewed(store, Limits(tokens=18_000)))
    events = store.events_written
    assert [type(event) for event in events].count(ev.StopRunByExceededBudget) == 2
    found = await replay(events, ONE)
    assert found.is_identical, found.divergence
