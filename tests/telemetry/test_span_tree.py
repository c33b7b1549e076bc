"""The spans of a run: one tree, nothing lost, nothing left over."""

import anyio
import pytest
from opentelemetry import baggage, context, trace

from perstack.core import events as ev
from perstack.core.messages import ToolCall, ToolResult, UserMessage, text_result
from perstack.errors import ModelError
from tests.telemetry.driver import Driver, a_checkpoint, a_request
from tests.telemetry.span_tree import Recorder

pytestmark = pytest.mark.anyio


def recorded() -> tuple[Recorder, Driver]:
    recorder = Recorder()
    return recorder, Driver(recorder.tracing, a_checkpoint())


async def test_a_run_with_tools_and_parallel_delegates_is_one_tree() -> None:
    recorder, run = recorded()

    with run.active():
        run.start()
        with run.span.skill_connection("files", "mcpStdioSkill"):
            pass
        run.ask_for(("read", "mcp"), ("list", "mcp"))
        await run.call_tools()
        run.next_step()
        run.ask_for(("hotel", "delegate"), ("flight", "delegate"))
        await run.delegate()
        run.next_step()
        run.finish()

    assert recorder.tree() == "\n".join(
        [
            "INTERNAL invoke_agent planner status=completed steps=3 input_tokens=30",
            "  INTERNAL step number=1 finish=continue !perstack.checkpoint",
            "    CLIENT chat m1 input_tokens=10",
            "    INTERNAL execute_tool read kind=mcp",
            "    INTERNAL execute_tool list kind=mcp",
            "  INTERNAL skill.connect files",
            "  INTERNAL step number=2 finish=delegate !perstack.checkpoint !perstack.checkpoint",
            "    CLIENT chat m1 input_tokens=10",
            *delegate_lines("hotel"),
            *delegate_lines("flight"),
            "  INTERNAL step number=3 finish=finish !perstack.checkpoint",
            "    CLIENT chat m1 input_tokens=10",
        ]
    )
    assert len({span.context.trace_id for span in recorder.spans if span.context}) == 1


def delegate_lines(name: str) -> list[str]:
    return [
        f"    INTERNAL execute_tool {name} kind=delegate",
        f"      INTERNAL invoke_agent {name} status=completed steps=1 input_tokens=10",
        "        INTERNAL step number=1 finish=finish !perstack.checkpoint",
        "          CLIENT chat m1 input_tokens=10",
    ]


async def test_a_run_says_what_it_is() -> None:
    recorder, run = recorded()

    with run.active():
        run.start()
        run.finish()

    attributes = dict(recorder.named("invoke_agent planner").attributes or {})
    assert attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.agent.description": "Plans.",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "m1",
        "gen_ai.conversation.id": "job1",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "perstack.job.id": "job1",
        "perstack.run.id": "run1",
        "perstack.run.status": "completed",
        "perstack.run.steps": 1,
        "perstack.max_steps": 10,
    }


async def test_steps_and_connections_carry_no_attribute_of_generative_ai() -> None:
    recorder, run = recorded()

    with run.active():
        run.start()
        with run.span.skill_connection("files", "mcpStdioSkill"):
            pass
        run.finish()

    plain = [
        span for span in recorder.spans if span.name.split(" ")[0] in ("step", "skill.connect")
    ]
    assert len(plain) == 2
    assert [
        key for span in plain for key in span.attributes or {} if key.startswith("gen_ai.")
    ] == []


async def test_a_tool_that_fails_marks_its_own_span_only() -> None:
    recorder, run = recorded()

    def fail(call: ToolCall) -> ToolResult:
        return text_result(call, "no such file", is_error=True)

    with run.active():
        run.start()
        run.ask_for(("read", "mcp"))
        await run.call_tools(fail)
        run.next_step()
        run.finish()

    failed = [span.name for span in recorder.spans if not span.status.is_unset]
    assert failed == ["execute_tool read"]
    assert "execute_tool read kind=mcp type=tool_error ERROR" in recorder.tree()


async def test_each_attempt_has_a_span_and_the_step_tells_of_the_retry() -> None:
    recorder, run = recorded()

    with run.active():
        run.start()
        run.emit(ev.StartGeneration)
        overload = ModelError("busy", name="RateLimitError", provider="google", is_retryable=True)
        with pytest.raises(ModelError), run.span.generation(a_request(), 1):
            raise overload
        error = ev.RunError(name="RateLimitError", message="busy", is_retryable=True)
        run.emit(ev.Retry, reason="busy", error=error, delay_seconds=1.5)
        run.generate(attempt=2)
        run.emit(ev.CompleteRun, text="done")

    assert recorder.tree() == "\n".join(
        [
            "INTERNAL invoke_agent planner status=completed steps=1 input_tokens=0",
            "  INTERNAL step number=1 finish=finish !perstack.retry !perstack.checkpoint",
            "    CLIENT chat m1 type=RateLimitError ERROR",
            "    CLIENT chat m1 attempt=2 input_tokens=10",
        ]
    )
    retry = recorder.named("step").events[0]
    assert dict(retry.attributes or {}) == {
        "perstack.retry.attempt": 1,
        "perstack.retry.delay_ms": 1500,
        "perstack.retry.reason": "busy",
        "error.type": "RateLimitError",
    }


async def test_a_cancelled_run_leaves_no_span_open() -> None:
    recorder, run = recorded()

    with anyio.CancelScope() as scope, run.active():
        run.start()
        run.ask_for(("read", "mcp"))
        try:
            with run.span.tool_call(run.checkpoint.tool_calls[0], "planner"):
                scope.cancel()
                await anyio.sleep_forever()
        finally:
            run.emit(ev.StopRunByCancellation, reason="enough")

    assert recorder.tree() == "\n".join(
        [
            (
                "INTERNAL invoke_agent planner status=stoppedByCancellation steps=1"
                " input_tokens=10 type=cancelled ERROR"
            ),
            "  INTERNAL step number=1 finish=cancelled type=cancelled ERROR !perstack.checkpoint",
            "    CLIENT chat m1 input_tokens=10",
            "    INTERNAL execute_tool read kind=mcp type=cancelled ERROR",
        ]
    )
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_run_that_ends_without_a_stop_is_marked_interrupted() -> None:
    recorder, run = recorded()

    with run.active():
        run.start()

    assert "type=interrupted ERROR" in recorder.tree()
    assert len(recorder.spans) == 2


async def test_a_question_to_the_user_is_no_error() -> None:
    recorder, run = recorded()

    with run.active():
        run.start()
        run.ask_for(("ask", "interactive"))
        run.emit(ev.FinishMcpTools)
        run.emit(ev.SkipDelegates)
        run.emit(ev.CallInteractiveTool, tool_call_id="id-ask")
        run.emit(ev.StopRunByInteractiveTool)

    span = recorder.named("invoke_agent planner")
    assert span.status.is_unset
    assert dict(span.events[0].attributes or {}) == {
        "perstack.interactive.tool": "ask",
        "perstack.interactive.call_id": "id-ask",
    }
    assert "step number=1 finish=interactive" in recorder.tree()


async def test_a_resumed_run_is_linked_to_the_trace_it_continues() -> None:
    recorder, run = recorded()
    with run.active():
        run.start()
        run.ask_for(("ask", "interactive"))
        run.emit(ev.FinishMcpTools)
        run.emit(ev.SkipDelegates)
        run.emit(ev.CallInteractiveTool, tool_call_id="id-ask")
        run.emit(ev.StopRunByInteractiveTool)
    stopped, first = run.checkpoint, recorder.named("invoke_agent planner")
    assert first.context is not None

    again = Recorder()
    rest = Driver(again.tracing, stopped)
    with rest.active(resumed_from=stopped.trace_parent):
        answer = text_result(stopped.tool_calls[0], "yes")
        rest.emit(ev.RecordToolResult, tool_result=answer)
        rest.emit(ev.ResumeFromStop)
        rest.next_step()
        rest.finish()

    span = again.named("invoke_agent planner")
    assert [link.context.span_id for link in span.links] == [first.context.span_id]
    assert span.attributes is not None
    assert span.attributes["perstack.resumed_from.trace_id"] == f"{first.context.trace_id:032x}"
    assert span.attributes["perstack.resumed_from.run_id"] == "run1"
    assert span.attributes["perstack.resumed_from.checkpoint_id"] == stopped.id
    assert again.tree() == "\n".join(
        [
            "INTERNAL invoke_agent planner status=completed steps=2 input_tokens=10",
            "  INTERNAL step number=1 finish=continue !perstack.checkpoint",
            "  INTERNAL step number=2 finish=finish !perstack.checkpoint",
            "    CLIENT chat m1 input_tokens=10",
        ]
    )


async def test_a_run_taken_up_in_the_middle_of_a_step_opens_that_step() -> None:
    _, run = recorded()
    with run.active():
        run.start()
        run.ask_for(("read", "mcp"))
    crashed = run.checkpoint

    again = Recorder()
    rest = Driver(again.tracing, crashed)
    with rest.active(resumed_from="garbage"):
        await rest.call_tools()
        rest.next_step()
        rest.finish()

    assert again.tree().splitlines()[1:3] == [
        "  INTERNAL step number=1 finish=continue !perstack.checkpoint",
        "    INTERNAL execute_tool read kind=mcp",
    ]
    assert again.named("invoke_agent planner").links == ()


async def test_step_and_tool_are_current_while_they_last() -> None:
    _, run = recorded()
    seen: list[str] = []

    def look(call: ToolCall) -> ToolResult:
        seen.append(getattr(trace.get_current_span(), "name", ""))
        return text_result(call, "fine")

    with run.active():
        run.start()
        seen.append(getattr(trace.get_current_span(), "name", ""))
        run.ask_for(("read", "mcp"), ("list", "mcp"))
        await run.call_tools(look)
        run.next_step()
        run.finish()
        seen.append(getattr(trace.get_current_span(), "name", ""))

    assert seen == ["step", "execute_tool read", "execute_tool list", "invoke_agent planner"]
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_events_observed_in_another_task_do_not_spoil_the_tree() -> None:
    recorder, run = recorded()

    async def begin() -> None:
        run.start()

    with run.active():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin)
        run.finish()

    assert [line.strip().split(" ")[1] for line in recorder.tree().splitlines()] == [
        "invoke_agent",
        "step",
        "chat",
    ]


async def test_a_run_continues_the_trace_of_its_caller() -> None:
    recorder, run = recorded()
    tracer = recorder.provider.get_tracer("caller")

    with tracer.start_as_current_span("chat caller") as caller, run.active():
        run.start()
        run.finish()

    parent = recorder.named("invoke_agent planner").parent
    assert parent is not None
    assert parent.span_id == caller.get_span_context().span_id


async def test_baggage_stays_away_from_skills_and_reaches_delegates() -> None:
    _, run = recorded()
    token = context.attach(baggage.set_baggage("tenant", "t1"))
    seen: list[object] = []

    with run.active():
        run.start()
        run.ask_for(("read", "mcp"), ("hotel", "delegate"))
        for call in run.checkpoint.tool_calls:
            with run.span.tool_call(call, "planner"):
                seen.append(baggage.get_baggage("tenant"))
        with run.span.skill_connection("files", "mcpStdioSkill"):
            seen.append(baggage.get_baggage("tenant"))
    context.detach(token)

    assert seen == [None, "t1", None]


async def test_messages_stay_out_of_spans_unless_they_are_wanted() -> None:
    recorder, run = recorded()

    with run.active():
        run.start("a private question")
        run.ask_for(("read", "mcp"), path="a private path")
        await run.call_tools(lambda call: text_result(call, "a private result"))
        run.next_step()
        run.finish()

    assert any(isinstance(message, UserMessage) for message in run.checkpoint.messages)
    assert "private" not in "".join(span.to_json() for span in recorder.spans)
