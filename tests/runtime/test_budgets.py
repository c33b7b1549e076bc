"""Budgets: reserved before each reply, shared with delegates, and a stop that can be continued."""

from dataclasses import replace
from typing import Any

import anyio
import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.events import Limits
from perstack.core.history import newest_checkpoints
from perstack.core.messages import Usage, UserMessage
from perstack.definition.budget import Budget, JobBudget
from perstack.definition.model import Definitions
from perstack.replay.runner import replay
from perstack.runtime.budget import BudgetAccounts
from perstack.runtime.context import JobStepCounter
from perstack.runtime.ports import Deltas, Generation, GenerationRequest
from tests.fakes import (
    FakeModel,
    FakeSkills,
    FakeStore,
    ManualClock,
    call,
    calls,
    done,
    experts,
    job_context,
)
from tests.runtime.acting import go_on, work

pytestmark = pytest.mark.anyio

ONE = experts(a=())
TEAM = experts(a=("a_x", "a_y"), a_x=(), a_y=())


def using(reply: Generation, tokens: int) -> Generation:
    """A reply that took so many tokens in and as few out as there can be."""
    usage = Usage(input_tokens=tokens - 1, output_tokens=1, total_tokens=tokens)
    return replace(reply, usage=usage)


def account(clock: ManualClock | None = None, **limits: Any) -> BudgetAccounts:
    accounts = BudgetAccounts((), clock or ManualClock())
    return accounts.open_account("run1", Limits(**limits))


def told(checkpoint: Checkpoint) -> list[str]:
    """What the expert is told of its budget."""
    texts = [
        part.text
        for message in checkpoint.messages
        if isinstance(message, UserMessage)
        for part in message.contents
        if part.type == "textPart"
    ]
    return [text for text in texts if text.startswith("Budget:")]


def steps(count: int, tokens: int, last: Generation) -> list[Generation]:
    looking = [using(calls(call("echo", x=number)), tokens) for number in range(count)]
    return [*looking, using(last, tokens)]


def with_budget(definitions: Definitions, expert: str, budget: Budget) -> Definitions:
    changed = definitions.experts[expert].model_copy(update={"budget": budget})
    return definitions.model_copy(update={"experts": {**definitions.experts, expert: changed}})


async def test_a_reply_that_the_tokens_do_not_allow_is_not_asked_for() -> None:
    model = FakeModel({"a": steps(20, 3000, done("never"))})
    end = await work(job_context(ONE, model, budget=account(tokens=20_000)))
    assert end.status == "stoppedByExceededBudget"
    assert end.exhausted is not None
    assert (end.exhausted.limit, end.exhausted.run_id) == ("tokens", "run1")
    assert "The budget of 20,000 tokens is used up" in end.exhausted.message
    assert 15_000 <= end.usage.total_tokens <= 20_000


async def test_what_a_budget_stopped_goes_on_with_a_new_one() -> None:
    store = FakeStore()
    model = FakeModel({"a": steps(8, 3000, done("fine"))})
    end = await work(job_context(ONE, model, store=store, budget=account(tokens=15_000)))
    again = BudgetAccounts((), ManualClock()).open_account(
        "run1", Limits(tokens=60_000), used=(end.usage, end.own_steps)
    )
    job = job_context(
        ONE, model, store=store, budget=again, steps=JobStepCounter(last=end.step_number, limit=99)
    )
    final = await go_on(job, end)
    assert (final.status, final.text, final.exhausted) == ("completed", "fine", None)
    assert final == newest_checkpoints(store.runs())["run1"]


async def test_the_expert_is_told_from_80_percent_on_and_before_the_last_reply() -> None:
    model = FakeModel({"a": steps(60, 1000, done("never"))})
    end = await work(job_context(ONE, model, budget=account(tokens=40_000)))
    first, last = told(end)
    assert first.startswith("Budget: 80% of the tokens")
    assert "this is the last reply that the tokens of this task allow" in last


async def test_steps_are_told_like_other_budgets() -> None:
    model = FakeModel({"a": steps(9, 10, done("fine"))})
    end = await work(job_context(ONE, model, max_steps=10))
    first, last = told(end)
    assert first == (
        "Budget: 80% of the steps of this task are used up. Finish soon, and leave out what is "
        "not needed."
    )
    assert last.startswith("Budget: this is the last reply that the steps")
    assert end.status == "completed"


async def test_delegates_side_by_side_share_a_budget_and_none_of_their_work_is_lost() -> None:
    store = FakeStore()
    replies = {
        "a": [calls(call("x", query="1"), call("y", query="2")), done("all")],
        "@a/x": steps(4, 3000, done("x is done")),
        "@a/y": steps(4, 3000, done("y is done")),
    }
    model = FakeModel(replies)
    end = await work(job_context(TEAM, model, store=store, budget=account(tokens=16_000)))
    assert end.status == "stoppedByExceededBudget"
    stopped = newest_checkpoints(store.runs())
    assert sum(each.usage.total_tokens for each in stopped.values()) <= 16_000
    assert [each.status for each in stopped.values()] == ["stoppedByExceededBudget"] * 3
    assert "recordToolResult" not in store.types("run1")

    total = Usage(total_tokens=sum(each.usage.total_tokens for each in stopped.values()))
    again = BudgetAccounts((), ManualClock()).open_account(
        "run1", Limits(tokens=100_000), used=(total, 0)
    )
    job = job_context(
        TEAM,
        model,
        store=store,
        known=stopped,
        budget=again,
        steps=JobStepCounter(last=50, limit=200),
    )
    final = await go_on(job, end)
    assert (final.status, final.text) == ("completed", "all")
    answers = [event for event in store.runs()["run1"] if isinstance(event, ev.RecordToolResult)]
    assert sorted(event.tool_result.text for event in answers) == ["x is done", "y is done"]
    assert len(store.runs()) == 3


async def test_a_delegate_with_a_budget_of_its_own_answers_with_what_it_has() -> None:
    store = FakeStore()
    team = with_budget(TEAM, "@a/x", Budget(max_tokens=8000))
    part = using(calls(call("echo", x=1), text="So far: one."), 3000)
    replies = {
        "a": [calls(call("x", query="1")), done("all")],
        "@a/x": [part, *steps(5, 3000, done("never"))],
    }
    end = await work(job_context(team, FakeModel(replies), store=store))
    assert (end.status, end.text) == ("completed", "all")
    (answer,) = [event for event in store.runs()["run1"] if isinstance(event, ev.RecordToolResult)]
    assert answer.tool_result.is_error
    assert "The budget of 8,000 tokens is used up" in answer.tool_result.text
    assert "So far: one." in answer.tool_result.text


async def test_steps_of_an_expert_are_counted_apart() -> None:
    store = FakeStore()
    model = FakeModel({"a": steps(9, 10, done("no"))})
    end = await work(job_context(ONE, model, store=store, budget=account(steps=3)))
    assert (end.status, end.own_steps) == ("stoppedByExceededBudget", 3)
    assert (await replay(store.events_written, ONE)).divergence is None
    assert end.exhausted is not None
    assert end.exhausted.message == "The budget of 3 steps is used up."


async def test_dollars_need_a_price() -> None:
    end = await work(job_context(ONE, FakeModel({"a": [done("no")]}), budget=account(cost_usd=1.0)))
    assert end.error is not None
    assert end.error.name == "ConfigError"
    assert '[models."fake-model".price]' in end.error.message


async def test_time_that_is_over_stops_a_run_in_the_middle_of_a_call() -> None:
    clock = ManualClock()
    skills = FakeSkills(gate=anyio.Event())
    model = FakeModel({"a": [calls(call("echo", "c1")), done("never")]})
    job = job_context(ONE, model, skills=skills, clock=clock, budget=account(clock, seconds=90))
    with anyio.fail_after(10):
        end = await work(job)
    assert end.status == "stoppedByExceededBudget"
    assert end.exhausted is not None
    assert end.exhausted.message == "The budget of 90 seconds is used up."


def bounded(definitions: Definitions, **limits: Any) -> Definitions:
    return definitions.model_copy(update={"budget": JobBudget(**limits)})


async def test_a_call_repeated_without_any_change_is_refused_and_then_ends_the_run() -> None:
    store = FakeStore()
    model = FakeModel({"a": [calls(call("echo", x=1)) for _ in range(20)]})
    end = await work(job_context(bounded(ONE, max_repeated_calls=3), model, store=store))
    results = [
        event.tool_result
        for event in store.runs()["run1"]
        if isinstance(event, ev.RecordToolResult)
    ]
    assert [result.is_error for result in results] == [False] * 3 + [True] * 6
    assert "echo was called 3 times in a row" in results[3].text
    assert end.error is not None
    assert end.error.name == "RepeatedCallError"


async def test_calls_may_be_repeated_as_long_as_something_changes() -> None:
    replies = [calls(call("echo", x=1)) for _ in range(3)]
    other = [calls(call("echo", x=2))]
    model = FakeModel({"a": [*replies, *other, *replies, done("fine")]})
    store = FakeStore()
    end = await work(job_context(bounded(ONE, max_repeated_calls=4), model, store=store))
    assert end.status == "completed"
    assert not any(
        event.tool_result.is_error
        for event in store.runs()["run1"]
        if isinstance(event, ev.RecordToolResult)
    )


async def test_without_a_limit_calls_may_be_repeated_for_ever() -> None:
    model = FakeModel({"a": [*(calls(call("echo", x=1)) for _ in range(30)), done("fine")]})
    end = await work(job_context(bounded(ONE, max_repeated_calls=0), model))
    assert (end.status, end.own_steps) == ("completed", 31)


async def test_delegation_goes_no_deeper_and_no_wider_than_the_budget_says() -> None:
    store = FakeStore()
    model = FakeModel(
        {"a": [calls(call("x", query="1"), call("y", query="2")), done("all")], "@a/x": [done("x")]}
    )
    end = await work(job_context(bounded(TEAM, max_delegation_width=1), model, store=store))
    assert end.status == "completed"
    results = [
        event.tool_result
        for event in store.runs()["run1"]
        if isinstance(event, ev.RecordToolResult)
    ]
    assert sorted(result.is_error for result in results) == [False, True]
    assert "One reply may call 1 delegates at most" in results[0].text

    flat = FakeModel({"a": [calls(call("x", query="1")), done("alone")]})
    alone = await work(job_context(bounded(TEAM, max_delegation_depth=0), flat))
    assert alone.text == "alone"


async def test_what_a_run_has_reserved_is_free_for_others_when_its_time_is_over() -> None:
    team = with_budget(TEAM, "@a/x", Budget(max_seconds=60))
    both = calls(call("x", "d1", query="q"), call("y", "d2", query="q"))
    replies = FakeModel({"a": [using(both, 200), done("whole")], "@a/y": [done("second")]})
    clock, asked = ManualClock(is_automatic=False), anyio.Event()

    class SilentForX(FakeModel):
        async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
            if request.expert_key != "@a/x":
                return await replies.generate(request, deltas)
            asked.set()
            await anyio.sleep_forever()
            raise AssertionError

    # Enough for one delegate at a time: each reserves more than 1,024 tokens for its first reply.
    job = job_context(team, SilentForX({}), clock=clock, budget=account(clock, tokens=2400))
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:

            async def pass_time() -> None:
                await asked.wait()
                await anyio.wait_all_tasks_blocked()
                assert [request.expert_key for request in replies.requests] == ["a"]
                clock.advance(61)

            tasks.start_soon(pass_time)
            await work(job)
    answers = replies.requests[-1].messages[-1].model_dump_json()
    assert "The budget of 60 seconds is used up." in answers
    assert "second" in answers
