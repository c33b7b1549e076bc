"""How one run goes from its opening to its stop."""

import anyio
import pytest

from perstack.core.messages import (
    ImageInlinePart,
    ToolCall,
    ToolMessage,
    ToolResult,
    Usage,
    UserMessage,
    text_result,
)
from perstack.core.transient_events import PerstackEvent
from perstack.errors import ModelError, SkillError
from perstack.runtime.ports import Generation
from tests.fakes import (
    STANDARD_TOOLS,
    FakeModel,
    FakeSkills,
    FakeStore,
    ManualClock,
    call,
    calls,
    done,
    experts,
    job_context,
    says,
    tool,
)
from tests.runtime.acting import work

pytestmark = pytest.mark.anyio

ONE = experts(a=())


def overloaded(retry_after: float | None = None) -> ModelError:
    return ModelError(
        "busy",
        name="RateLimitError",
        provider="fake",
        status=429,
        is_retryable=True,
        retry_after_seconds=retry_after,
    )


async def test_a_plain_text_reply_completes_the_run() -> None:
    store = FakeStore()
    end = await work(job_context(ONE, FakeModel({"a": [says("hello")]}), store=store))
    assert (end.status, end.text, end.step_number) == ("completed", "hello", 1)
    assert store.types("run1") == ["startRun", "startGeneration", "completeRun"]


async def test_tools_that_change_are_shown_with_the_next_generation() -> None:
    skills = FakeSkills()

    def add_tool(call_: ToolCall) -> ToolResult:
        skills.tools_of, skills.version = (*STANDARD_TOOLS, tool("extra")), 1
        return text_result(call_, call_.tool_name)

    skills.handler = add_tool
    model = FakeModel({"a": [calls(call("echo", "c1")), calls(call("extra", "c2")), done("fine")]})

    end = await work(job_context(ONE, model, skills=skills))

    assert end.text == "fine"
    assert [each.tool_name for each in skills.called] == ["echo", "extra"]
    assert [len(request.tools) for request in model.requests] == [6, 7, 7]


async def test_a_step_with_a_tool_call_records_intent_result_and_message_in_order() -> None:
    store = FakeStore()
    model = FakeModel({"a": [calls(call("echo", "c1", x=1)), done("fine")]})
    end = await work(job_context(ONE, model, store=store))
    assert end.text == "fine"
    assert store.types("run1") == [
        "startRun",
        "startGeneration",
        "callTools",
        "startToolCalls",
        "recordToolResult",
        "resolveToolResults",
        "finishToolCall",
        "continueToNextStep",
        "startGeneration",
        "callTools",
        "attemptCompletion",
        "completeRun",
    ]


async def test_nothing_acts_on_an_event_before_it_is_durable() -> None:
    store = FakeStore()
    seen: list[list[str]] = []

    def script(_request: object) -> Generation:
        seen.append([event.type for event in store.events_written])
        return calls(call("echo", f"c{len(seen)}")) if len(seen) == 1 else done("x")

    await work(job_context(ONE, FakeModel(script), store=store))
    assert seen[0][-1] == "startGeneration"
    assert seen[1][-1] == "startGeneration"


async def test_tool_calls_of_one_message_run_side_by_side_and_are_answered_in_call_order() -> None:
    gate = anyio.Event()
    skills = FakeSkills(gate=gate)
    model = FakeModel({"a": [calls(call("echo", "c1", n=1), call("echo", "c2", n=2)), done("x")]})
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:

            async def open_gate_when_both_wait() -> None:
                while len(skills.called) < 2:
                    await anyio.lowlevel.checkpoint()
                gate.set()

            tasks.start_soon(open_gate_when_both_wait)
            await work(job_context(ONE, model, skills=skills))
    answers = model.requests[1].messages[-1]
    assert isinstance(answers, ToolMessage)
    assert [part.tool_call_id for part in answers.contents] == ["c1", "c2"]


async def test_an_unknown_tool_is_answered_with_the_names_of_the_known_ones() -> None:
    model = FakeModel({"a": [calls(call("fly", "c1")), done("x")]})
    skills = FakeSkills()
    await work(job_context(ONE, model, skills=skills))
    answer = model.requests[1].messages[-1]
    assert isinstance(answer, ToolMessage)
    assert answer.contents[0].is_error
    assert "echo" in str(answer.contents[0].contents)
    assert skills.called == []


async def test_arguments_that_cannot_be_read_are_answered_without_calling_the_tool() -> None:
    broken = call("echo", "c1").model_copy(update={"args_error": "not JSON"})
    skills = FakeSkills()
    model = FakeModel({"a": [calls(broken), done("x")]})
    end = await work(job_context(ONE, model, skills=skills))
    assert (end.status, skills.called) == ("completed", [])


async def test_completion_is_refused_while_todos_are_open() -> None:
    model = FakeModel(
        {
            "a": [
                calls(call("todo", "t1", newTodos=["look", "write"])),
                done("early"),
                calls(call("todo", "t2", completedTodos=[0, 1])),
                done("late"),
            ]
        }
    )
    end = await work(job_context(ONE, model))
    assert end.text == "late"
    assert "remainingTodos" in str(model.requests[2].messages[-1])


async def test_completion_beside_a_failing_call_is_refused_until_the_failure_was_read() -> None:
    both = calls(call("echo", "c1", fail=True), call("attemptCompletion", "c2", result="early"))
    model = FakeModel({"a": [both, done("late")]})
    end = await work(job_context(ONE, model))
    assert end.text == "late"


async def test_completion_beside_a_successful_call_is_accepted_and_both_are_answered() -> None:
    both = calls(call("attemptCompletion", "c2", result="ok"), call("echo", "c1"))
    skills = FakeSkills()
    end = await work(job_context(ONE, FakeModel({"a": [both]}), skills=skills))
    assert end.text == "ok"
    assert len(skills.called) == 1
    answers = end.messages[-2]
    assert isinstance(answers, ToolMessage)
    assert [part.tool_call_id for part in answers.contents] == ["c2", "c1"]


async def test_a_provider_failure_is_retried_after_the_time_that_the_provider_asked_for() -> None:
    model = FakeModel({"a": [overloaded(retry_after=7), overloaded(), says("ok")]})
    store = FakeStore()
    clock = ManualClock()
    end = await work(job_context(ONE, model, store=store, clock=clock))
    assert (end.text, end.step_number, clock.slept) == ("ok", 1, [7.0, 2.0])
    assert store.types("run1").count("retry") == 2


async def test_a_provider_failure_adds_nothing_to_the_conversation() -> None:
    model = FakeModel({"a": [overloaded(), says("ok")]})
    await work(job_context(ONE, model))
    assert model.requests[0].messages == model.requests[1].messages


async def test_retries_end_in_an_error_that_names_the_last_failure() -> None:
    end = await work(job_context(ONE, FakeModel(lambda _request: overloaded()), max_retries=2))
    assert end.status == "stoppedByError"
    assert end.error is not None
    assert end.error.message == "Max retries (2) exceeded: busy"


async def test_a_failure_that_cannot_be_retried_stops_the_run_at_once() -> None:
    refused = ModelError("no key", name="AuthenticationError", provider="fake", status=401)
    model = FakeModel({"a": [refused]})
    end = await work(job_context(ONE, model))
    assert (end.status, len(model.requests)) == ("stoppedByError", 1)


async def test_an_empty_reply_is_retried_with_a_reminder_and_uses_a_step() -> None:
    model = FakeModel({"a": [Generation(), says("ok")]})
    end = await work(job_context(ONE, model))
    assert (end.text, end.step_number) == ("ok", 2)
    assert isinstance(model.requests[1].messages[-1], UserMessage)


async def test_calls_of_a_reply_that_was_cut_are_answered_and_not_made() -> None:
    cut = Generation(tool_calls=(call("echo", "c1"),), finish_reason="length")
    skills = FakeSkills()
    model = FakeModel({"a": [cut, says("ok")]})
    await work(job_context(ONE, model, skills=skills))
    assert skills.called == []
    answer = model.requests[1].messages[-1]
    assert isinstance(answer, ToolMessage)
    assert answer.contents[0].is_error


async def test_a_reply_that_was_paused_goes_on_in_the_next_step_and_is_no_failure() -> None:
    paused = Generation(text="It is ", finish_reason="paused", usage=Usage(input_tokens=2))
    failure = ModelError("busy", name="Busy", provider="fake", is_retryable=True)
    rest = Generation(text="3.", usage=Usage(input_tokens=3))
    model = FakeModel({"a": [paused, paused, failure, rest]})

    end = await work(job_context(ONE, model, max_retries=1))

    assert (end.status, end.text, end.step_number) == ("completed", "It is It is 3.", 3)
    assert end.usage.input_tokens == 7
    said = model.requests[-1].messages[-2:]
    assert [each.text for each in said if each.type == "expertMessage"] == ["It is ", "It is "]


async def test_a_reply_of_images_alone_is_an_answer() -> None:
    image = ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png")
    end = await work(job_context(ONE, FakeModel({"a": [Generation(media=(image,))]})))
    assert (end.status, end.text) == ("completed", "[content of type image/png]")
    assert end.media == (image,)


async def test_a_reply_that_was_filtered_stops_the_run() -> None:
    end = await work(
        job_context(ONE, FakeModel({"a": [Generation(finish_reason="contentFilter")]}))
    )
    assert end.error is not None
    assert end.error.name == "ContentFilter"


async def test_a_skill_that_cannot_start_stops_the_run_with_its_reason() -> None:
    store = FakeStore()
    skills = FakeSkills(failure=SkillError("time did not start", skill="time"))
    end = await work(job_context(ONE, FakeModel({}), skills=skills, store=store))
    assert end.status == "stoppedByError"
    assert store.types("run1") == ["startRun", "stopRunByError"]


async def test_the_run_stops_when_the_steps_are_used_up() -> None:
    model = FakeModel(lambda request: calls(call("echo", f"c{len(request.messages)}")))
    end = await work(job_context(ONE, model, max_steps=3))
    assert (end.status, end.step_number, len(model.requests)) == ("stoppedByExceededMaxSteps", 3, 3)


async def test_repeated_call_ids_of_one_reply_are_told_apart() -> None:
    model = FakeModel(
        {"a": [calls(call("echo", "same", n=1), call("echo", "same", n=2)), done("x")]}
    )
    skills = FakeSkills()
    end = await work(job_context(ONE, model, skills=skills))
    assert end.status == "completed"
    assert len(set(skills.keys)) == 2


async def test_a_bug_ends_the_run_with_an_event() -> None:
    def broken(_request: object) -> Generation:
        raise ZeroDivisionError

    end = await work(job_context(ONE, FakeModel(broken)))
    assert end.error is not None
    assert end.error.name == "InternalError"
    assert end.error.message == "Internal error: ZeroDivisionError"


async def test_a_listener_gets_the_reply_as_it_streams() -> None:
    heard: list[PerstackEvent] = []
    await work(job_context(ONE, FakeModel({"a": [says("hello")]}), heard=heard))
    types = [event.type for event in heard]
    start = types.index("startStreamingRunResult")
    assert types[start : start + 3] == [
        "startStreamingRunResult",
        "streamRunResult",
        "completeStreamingRunResult",
    ]


async def test_a_key_that_a_tool_finds_reaches_neither_the_store_nor_the_model() -> None:
    store = FakeStore()
    model = FakeModel({"a": [calls(call("echo", "c1", found="KEY=sk-canary-123")), done("x")]})

    def finds(call_: ToolCall) -> ToolResult:
        return text_result(call_, "OPENAI_API_KEY=sk-canary-123")

    await work(job_context(ONE, model, skills=FakeSkills(handler=finds), store=store))
    answer = model.requests[1].messages[-1]
    assert "sk-canary" not in str(answer)
    recorded = [event for event in store.events_written if event.type == "recordToolResult"]
    assert "sk-canary" not in str(recorded)
