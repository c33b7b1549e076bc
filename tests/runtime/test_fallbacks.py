"""A model that stands in for another while that cannot be reached."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import newest_checkpoints
from perstack.core.messages import Usage
from perstack.definition.model import Definitions, Expert, ModelChoice, Provider
from perstack.definition.model_facts import ModelFacts, Price
from perstack.errors import ModelError
from perstack.replay.runner import replay
from perstack.runtime.context import JobContext, JobStepCounter
from perstack.runtime.ports import Generation, GenerationRequest
from tests.fakes import (
    FakeModel,
    FakeSkills,
    FakeStore,
    Reply,
    call,
    calls,
    done,
    experts,
    job_context,
    says,
)
from tests.runtime.acting import go_on, work
from tests.telemetry.span_tree import Recorder

pytestmark = pytest.mark.anyio

ONE = experts(a=())
TEAM = experts(a=("a_x",), a_x=())
TOKENS = Usage(input_tokens=10, output_tokens=5, total_tokens=15)


def outage(status: int = 503) -> ModelError:
    return ModelError(
        f"status {status}",
        name="ServiceUnavailableError",
        provider="fake",
        status=status,
        is_retryable=status not in (400, 401, 403),
    )


def choice(model: str, window: int, dollars: float) -> ModelChoice:
    return ModelChoice(
        provider=Provider(provider_name="scripted"),
        model=model,
        facts=ModelFacts(context_window=window, price=Price(input=dollars, output=dollars)),
    )


class ChainedModel(FakeModel):
    """Has a first, a second and a third model; `down` are those that cannot be reached.

    Those who can say what comes next for the expert.
    """

    def __init__(self, *replies: Reply, down: Sequence[str] = ("first",)) -> None:
        queue = iter(replies)

        def answer(request: GenerationRequest) -> Reply:
            return outage() if request.choice.model in down else next(queue)

        super().__init__(answer)

    def choose(self, expert: Expert) -> ModelChoice:
        others = (choice("second", 2000, 2.0), choice("third", 3000, 3.0))
        return replace(choice("first", 1000, 1.0), fallbacks=others)

    @property
    def asked(self) -> list[str]:
        return [request.choice.model for request in self.requests]


def job_of(
    model: FakeModel,
    store: FakeStore | None = None,
    definitions: Definitions = ONE,
    known: dict[str, Checkpoint] | None = None,
    max_retries: int = 1,
) -> JobContext:
    steps = JobStepCounter(last=9, limit=20) if known else None
    return job_context(
        definitions, model, store=store, max_retries=max_retries, known=known, steps=steps
    )


def fallbacks(events: Sequence[ev.RunEvent]) -> list[ev.ModelRef]:
    return [e.fallback for e in events if isinstance(e, ev.Retry) and e.fallback is not None]


async def assert_replayed(store: FakeStore, definitions: Definitions = ONE) -> None:
    assert (await replay(store.events_written, definitions)).divergence is None


async def test_the_next_model_goes_on_once_the_retries_are_used_up() -> None:
    store = FakeStore()
    model = ChainedModel(Generation(text="here", usage=TOKENS))
    end = await work(job_of(model, store))
    assert (end.status, end.text) == ("completed", "here")
    assert model.asked == ["first", "first", "second"]
    assert (end.provider, end.model, end.context_window) == ("scripted", "second", 2000)
    assert end.usage.cost_usd == pytest.approx(15 * 2.0 / 1_000_000)
    assert fallbacks(store.events_written) == [
        ev.ModelRef(provider="scripted", model="second", context_window=2000)
    ]
    await assert_replayed(store)


async def test_the_next_model_has_its_own_retries() -> None:
    store = FakeStore()
    model = ChainedModel(says("here"), down=("first", "second"))
    end = await work(job_of(model, store, max_retries=2))
    assert model.asked == ["first"] * 3 + ["second"] * 3 + ["third"]
    assert end.text == "here"
    await assert_replayed(store)


async def test_the_run_stops_when_the_last_model_cannot_be_reached_either() -> None:
    store = FakeStore()
    model = ChainedModel(down=("first", "second", "third"))
    end = await work(job_of(model, store, max_retries=0))
    assert model.asked == ["first", "second", "third"]
    assert end.error is not None
    assert (end.status, end.error.status_code) == ("stoppedByError", 503)
    await assert_replayed(store)


async def test_the_rest_of_the_run_stays_with_the_model_that_answers() -> None:
    model = ChainedModel(calls(call("echo", "c1")), done("x"))
    await work(job_of(model, max_retries=0))
    assert model.asked == ["first", "second", "second"]


async def test_how_full_the_window_is_follows_the_model_that_stands_in() -> None:
    heavy = Usage(input_tokens=800, output_tokens=100, total_tokens=900)
    looked = replace(calls(call("echo", "c1")), usage=heavy)
    model = ChainedModel(looked, outage(), outage(401), down=())
    end = await work(job_of(model, max_retries=0))
    assert (end.model, end.context_window, end.context_window_usage) == ("second", 2000, 0.45)


@pytest.mark.parametrize(
    "reply",
    [outage(401), Generation(finish_reason="contentFilter"), Generation()],
    ids=["refused", "filtered", "empty"],
)
async def test_what_is_no_outage_leads_to_no_other_model(reply: Reply) -> None:
    store = FakeStore()
    model = ChainedModel(reply, reply, down=())
    end = await work(job_of(model, store))
    assert end.status == "stoppedByError"
    assert set(model.asked) == {"first"}
    assert fallbacks(store.events_written) == []


async def test_a_run_that_is_resumed_after_a_stop_begins_with_the_first_model() -> None:
    store = FakeStore()
    failed = await work(job_of(ChainedModel(down=("first", "second", "third")), store))
    assert failed.model == "third"
    model = ChainedModel(says("back"), down=())
    end = await go_on(job_of(model, store, known={"run1": failed}), failed)
    assert (end.text, end.model, end.context_window) == ("back", "first", 1000)
    assert model.asked == ["first"]
    assert end == newest_checkpoints(store.runs())["run1"]


def without_ids(
    events: Sequence[ev.RunEvent], activation_id: str, is_end: Callable[[ev.RunEvent], bool]
) -> list[ev.RunEvent]:
    """The events of a process that died right after one."""
    cut = next(index for index, event in enumerate(events) if is_end(event)) + 1
    first = events[0].model_copy(update={"activation_id": activation_id})
    return [first, *events[1:cut]]


@pytest.mark.parametrize("last", ["retry", "startGeneration"])
async def test_a_process_that_takes_over_goes_on_with_the_model_that_stands_in(last: str) -> None:
    store = FakeStore()
    await work(job_of(ChainedModel(says("lost")), store, max_retries=0))
    seen: list[str] = []

    def is_end(event: ev.RunEvent) -> bool:
        seen.append(event.type)
        return "retry" in seen and event.type == last

    store.events_written = without_ids(store.events_written, "one", is_end)
    checkpoint = newest_checkpoints(store.runs())["run1"]
    model = ChainedModel(says("here"))
    job = replace(job_of(model, store, max_retries=0), activation_id="two")
    end = await go_on(job, checkpoint)
    assert (end.text, end.model, model.asked) == ("here", "second", ["second"])
    await assert_replayed(store)


async def test_a_process_that_takes_over_can_fall_back_further() -> None:
    store = FakeStore()
    await work(job_of(ChainedModel(says("lost")), store, max_retries=0))
    store.events_written = without_ids(store.events_written, "one", lambda e: e.type == "retry")
    checkpoint = newest_checkpoints(store.runs())["run1"]
    model = ChainedModel(says("here"), down=("first", "second"))
    job = replace(job_of(model, store, max_retries=0), activation_id="two")
    end = await go_on(job, checkpoint)
    assert (end.text, end.model, model.asked) == ("here", "third", ["second", "third"])
    await assert_replayed(store)


async def test_a_delegate_begins_with_the_first_model_and_leaves_that_of_its_caller_alone() -> None:
    store = FakeStore()
    model = ChainedModel(calls(call("x", "d1", query="q")), done("child"), done("whole"))
    end = await work(job_of(model, store, TEAM, max_retries=0))
    assert (end.text, end.model) == ("whole", "second")
    assert model.asked == ["first", "second", "first", "second", "second"]
    await assert_replayed(store, TEAM)


async def test_a_file_that_has_fewer_models_now_is_no_hindrance() -> None:
    store = FakeStore()
    await work(job_of(ChainedModel(says("lost")), store, max_retries=0))
    events = without_ids(store.events_written, "one", lambda e: e.type == "retry")
    checkpoint = newest_checkpoints({"run1": tuple(events)})["run1"]
    model = FakeModel({"a": [says("here")]})
    end = await go_on(job_context(ONE, model, skills=FakeSkills()), checkpoint)
    assert end.text == "here"


async def test_the_spans_show_who_was_asked_and_when_another_stood_in() -> None:
    recorder = Recorder()
    job = replace(job_of(ChainedModel(says("here")), max_retries=0), telemetry=recorder.tracing)
    await work(job)
    assert [span.name for span in recorder.spans if span.name.startswith("chat")] == [
        "chat first",
        "chat second",
    ]
    [event] = [each for each in recorder.named("step").events if "fallback" in each.name]
    assert dict(event.attributes or {}) == {
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "second",
        "perstack.retry.reason": "status 503",
        "error.type": "ServiceUnavailableError",
    }
