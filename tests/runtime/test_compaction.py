"""Long conversations: told when the window is nearly full, and shortened if the file says so."""

from dataclasses import replace

import anyio
import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.events import Limits
from perstack.core.history import newest_checkpoints
from perstack.core.messages import ExpertMessage, TextPart, ToolMessage, Usage, UserMessage
from perstack.core.transient_events import ContextWindowNearlyFull, PerstackEvent
from perstack.definition.model import Definitions
from perstack.errors import CONTEXT_WINDOW_EXCEEDED, ModelError
from perstack.replay.runner import replay
from perstack.runtime.budget import BudgetAccounts
from perstack.runtime.compaction import SUMMARY_PREFACE
from perstack.runtime.ports import Generation, GenerationRequest
from tests.fakes import (
    FakeModel,
    FakeStore,
    ManualClock,
    call,
    calls,
    done,
    experts,
    job_context,
    says,
)
from tests.runtime.acting import work

pytestmark = pytest.mark.anyio

WINDOW = 1000
"""Of the model of these tests."""


def compacting(at: float | None) -> Definitions:
    return experts(a=()).model_copy(update={"compact_at": at})


def filling(reply: Generation, tokens: int) -> Generation:
    usage = Usage(input_tokens=tokens - 1, output_tokens=1, total_tokens=tokens)
    return replace(reply, usage=usage)


class Filling(FakeModel):
    """Takes a fixed number of tokens for each message that it reads."""

    def __init__(self, steps: int, *, per_message: int = 50, summary: str = "It looked.") -> None:
        self.summaries: list[GenerationRequest] = []

        def reply(request: GenerationRequest) -> Generation:
            if request.purpose == "summary":
                self.summaries.append(request)
                return filling(says(summary), 100)
            number = request.earlier_replies + sum(
                isinstance(message, ExpertMessage) for message in request.messages
            )
            looks = calls(call("echo", f"c{number}", x=number))
            answer = looks if number < steps else done("fine")
            return filling(answer, per_message * len(request.messages))

        super().__init__(reply)


def texts(checkpoint: Checkpoint) -> list[str]:
    return [
        part.text
        for message in checkpoint.messages
        if isinstance(message, UserMessage)
        for part in message.contents
        if isinstance(part, TextPart)
    ]


async def test_a_window_that_is_nearly_full_is_reported_once() -> None:
    heard: list[PerstackEvent] = []
    await work(job_context(compacting(None), Filling(12), heard=heard))
    (event,) = [event for event in heard if isinstance(event, ContextWindowNearlyFull)]
    assert (event.context_window, event.context_window_usage) == (WINDOW, 0.8)


async def test_nothing_is_shortened_unless_the_file_says_so() -> None:
    model = Filling(12)
    end = await work(job_context(compacting(None), model))
    assert end.context_window_usage == 1.0
    assert model.summaries == []


async def test_the_beginning_is_replaced_by_a_summary_and_the_newest_step_stays() -> None:
    store, model = FakeStore(), Filling(20)
    end = await work(job_context(compacting(0.7), model, store=store), query="Look around.")
    assert (end.status, end.text) == ("completed", "fine")
    assert model.summaries
    events = store.runs()["run1"]
    first = next(event for event in events if isinstance(event, ev.CompactHistory))
    before = newest_checkpoints({"run1": events[: events.index(first)]})["run1"]
    after = newest_checkpoints({"run1": events[: events.index(first) + 1]})["run1"]
    assert after.messages[0] == before.messages[0]
    assert texts(after) == ["Look around.", f"{SUMMARY_PREFACE}It looked."]
    assert after.messages[-2:] == before.messages[-2:]
    assert isinstance(after.messages[-1], ToolMessage)
    assert after.usage == before.usage + first.usage


async def test_a_conversation_is_shortened_as_often_as_it_must_be_and_never_overflows() -> None:
    store, model = FakeStore(), Filling(80)
    end = await work(job_context(compacting(0.7), model, store=store), query="Look around.")
    assert end.status == "completed"
    assert len(model.summaries) > 3
    assert max(len(request.messages) for request in model.requests) * 50 <= WINDOW
    assert newest_checkpoints(store.runs())["run1"] == end


async def test_the_summary_is_asked_for_with_what_was_said_done_and_found() -> None:
    model = Filling(20)
    await work(job_context(compacting(0.7), model), query="Look around.")
    request = model.summaries[0]
    assert request.tools == ()
    (_, transcript) = request.messages
    assert isinstance(transcript, UserMessage)
    (part,) = transcript.contents
    assert isinstance(part, TextPart)
    assert "User: Look around." in part.text
    assert 'Agent calls echo: {"x": 0}' in part.text
    assert "echo answered: " in part.text


async def test_a_shortened_job_is_replayed_as_it_was() -> None:
    store, definitions = FakeStore(), compacting(0.7)
    await work(job_context(definitions, Filling(30), store=store))
    result = await replay(store.events_written, definitions)
    assert result.divergence is None
    assert result.matched == len(store.events_written)


async def test_what_a_provider_refuses_as_too_long_is_shortened_and_asked_again() -> None:
    store = FakeStore()

    def reply(request: GenerationRequest) -> Generation:
        if request.purpose == "summary":
            return says("Short.")
        if request.earlier_replies == 0 and len(request.messages) > 8:
            raise ModelError("too long", name=CONTEXT_WINDOW_EXCEEDED, provider="x", status=400)
        number = request.earlier_replies + len(request.messages) // 2
        return done("fine") if request.earlier_replies else calls(call("echo", x=number))

    definitions = compacting(0.9)
    end = await work(job_context(definitions, FakeModel(reply), store=store))
    assert end.text == "fine"
    assert "compactHistory" in store.types("run1")
    assert (await replay(store.events_written, definitions)).divergence is None


async def test_a_conversation_that_was_too_long_leaves_nothing_reserved() -> None:
    def reply(request: GenerationRequest) -> Generation:
        if request.purpose == "summary":
            return says("It looked.")
        if len(request.messages) > 5 and not request.earlier_replies:
            raise ModelError("too long", name=CONTEXT_WINDOW_EXCEEDED, provider="x", status=400)
        number = request.earlier_replies + len(request.messages) // 2
        return done("fine") if request.earlier_replies else calls(call("echo", x=number))

    limit = 50_000
    budget = BudgetAccounts((), ManualClock()).open_account("run1", Limits(tokens=limit))
    end = await work(job_context(compacting(0.9), FakeModel(reply), budget=budget))
    assert (end.text, end.usage.total_tokens) == ("fine", 0)
    with anyio.fail_after(10):
        shortage = await budget.reserve(Usage(total_tokens=limit), anyio.lowlevel.checkpoint)
    assert shortage is None


async def test_a_summary_that_fails_is_tried_again_and_then_stops_the_run() -> None:
    fails = iter([ModelError("down", name="X", provider="x", is_retryable=True)] * 2)

    def reply(request: GenerationRequest) -> Generation:
        if request.purpose == "summary":
            error = next(fails, None)
            if error is not None:
                raise error
            return says("")
        return filling(calls(call("echo", x=len(request.messages))), 900)

    end = await work(job_context(compacting(0.7), FakeModel(reply), max_retries=3))
    assert end.error is not None
    assert end.error.name == "EmptySummaryError"
