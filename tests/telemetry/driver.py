"""A loop without a mind: plays the events of a run to a `Telemetry` as the runtime does."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.machine import blank_checkpoint, evolve
from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    Message,
    TextPart,
    ToolCall,
    ToolCallPart,
    ToolKind,
    ToolResult,
    Usage,
    UserMessage,
    text_result,
)
from perstack.definition.model import Expert, McpStdioSkill, ModelChoice, Provider
from perstack.runtime.ports import Generation, GenerationRequest
from perstack.runtime.telemetry_port import RunSpan, Telemetry

USAGE = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
CHOICE = ModelChoice(provider=Provider(provider_name="google"), model="m1")


def an_expert(key: str = "planner") -> Expert:
    skill = McpStdioSkill(type="mcpStdioSkill", command="run-it", required_env=("SKILL_SECRET",))
    return Expert(key=key, description="Plans.", instruction="Plan.", skills={"files": skill})


def a_checkpoint(key: str = "planner", run_id: str = "run1") -> Checkpoint:
    ref = ev.ExpertRef(key=key, name=key, version="1.0.0")
    return blank_checkpoint(a_stamp(key, run_id, 1, 1), ref)


def a_stamp(key: str, run_id: str, step: int, sequence: int) -> ev.Stamp:
    return ev.Stamp(
        job_id="job1",
        run_id=run_id,
        expert_key=key,
        step_number=step,
        sequence=sequence,
        timestamp=sequence,
    )


def a_request(messages: tuple[Message, ...] = ()) -> GenerationRequest:
    return GenerationRequest(CHOICE, messages, (), "job1", "planner")


class Driver:
    """One activation of a run."""

    def __init__(self, telemetry: Telemetry, checkpoint: Checkpoint) -> None:
        self.telemetry = telemetry
        self.checkpoint = checkpoint
        self.span: RunSpan

    @contextmanager
    def active(self, resumed_from: str | None = None) -> Generator[None]:
        expert = an_expert(self.checkpoint.expert.key)
        with self.telemetry.run(self.checkpoint, expert, resumed_from) as self.span:
            yield

    def emit(self, event: Callable[..., ev.RunEvent], **fields: Any) -> None:
        now = self.checkpoint
        stamp = a_stamp(now.expert.key, now.run_id, now.step_number, now.sequence + 1)
        made = event(stamp=stamp, **fields)
        self.checkpoint = evolve(now, made)
        self.span.observe(made, self.checkpoint)

    def start(self, query: str = "plan", parent: ev.DelegatedBy | None = None) -> None:
        messages = (
            InstructionMessage(stable="You plan."),
            UserMessage(contents=(TextPart(text=query),)),
        )
        self.emit(
            ev.StartRun,
            expert=self.checkpoint.expert,
            provider="google",
            model="m1",
            input_messages=messages,
            step_limit=10,
            delegated_by=parent,
            trace_parent=self.span.trace_parent,
        )

    def generate(self, generation: Generation | None = None, attempt: int = 1) -> Generation:
        self.emit(ev.StartGeneration)
        reply = generation or Generation(text="done", usage=USAGE)
        with self.span.generation(a_request(self.checkpoint.messages), attempt) as span:
            span.finished(reply)
        return reply

    def ask_for(self, *calls: tuple[str, ToolKind], **args: Any) -> None:
        """A generation that calls the named tools."""
        parts = tuple(
            ToolCallPart(tool_call_id=f"id-{name}", tool_name=name, args=args) for name, _ in calls
        )
        self.generate(Generation(tool_calls=parts, finish_reason="toolCalls", usage=USAGE))
        targets = tuple(
            ev.ToolTarget(tool_call_id=f"id-{name}", skill_name="files", kind=kind)
            for name, kind in calls
        )
        self.emit(
            ev.CallTools, new_message=ExpertMessage(contents=parts), targets=targets, usage=USAGE
        )

    async def call_tools(self, answer: Callable[[ToolCall], ToolResult] | None = None) -> None:
        """Executes the pending MCP calls side by side, each in a task of its own."""
        pending = self.checkpoint.pending("mcp")
        self.emit(ev.StartToolCalls, tool_call_ids=tuple(call.id for call in pending))
        results: dict[str, ToolResult] = {}

        async def execute(call: ToolCall) -> None:
            with self.span.tool_call(call, self.checkpoint.expert.key) as span:
                await anyio.lowlevel.checkpoint()
                results[call.id] = answer(call) if answer else text_result(call, "fine")
                span.finished(results[call.id])

        async with anyio.create_task_group() as tasks:
            for call in pending:
                tasks.start_soon(execute, call)
        for call in pending:
            self.emit(ev.RecordToolResult, tool_result=results[call.id])

    async def delegate(self) -> None:
        """Runs a child for each pending delegate call, all at once."""
        pending = self.checkpoint.pending("delegate")
        delegations = tuple(
            ev.Delegation(
                expert=ev.ExpertRef(key=call.tool_name, name=call.tool_name, version="1.0.0"),
                tool_call_id=call.id,
                tool_name=call.tool_name,
                query="part",
                run_id=f"run-{call.tool_name}",
            )
            for call in pending
        )
        self.emit(ev.FinishMcpTools)
        self.emit(ev.CallDelegate, delegate_to=delegations)
        self.emit(ev.StopRunByDelegate)

        async def execute(call: ToolCall) -> None:
            with self.span.tool_call(call, self.checkpoint.expert.key) as span:
                child = Driver(
                    self.telemetry, a_checkpoint(call.tool_name, f"run-{call.tool_name}")
                )
                await anyio.lowlevel.checkpoint()
                with child.active():
                    child.start("part", self._delegated_by(call))
                    await anyio.lowlevel.checkpoint()
                    child.finish()
                span.finished(text_result(call, "part"))

        async with anyio.create_task_group() as tasks:
            for call in pending:
                tasks.start_soon(execute, call)
        for call in pending:
            self.emit(ev.RecordToolResult, tool_result=text_result(call, "part"))
        self.emit(ev.ResumeFromStop)

    def next_step(self) -> None:
        self.emit(ev.ResolveToolResults)
        self.emit(ev.FinishToolCall)
        self.emit(ev.ContinueToNextStep, next_step_number=self.checkpoint.step_number + 1)

    def finish(self) -> None:
        """A last generation, whose text is the answer."""
        self.generate()
        message = ExpertMessage(contents=(TextPart(text="done"),))
        self.emit(ev.CompleteRun, text="done", new_message=message, usage=USAGE)

    def _delegated_by(self, call: ToolCall) -> ev.DelegatedBy:
        return ev.DelegatedBy(
            expert=self.checkpoint.expert,
            tool_call_id=call.id,
            tool_name=call.tool_name,
            checkpoint_id=self.checkpoint.id,
            run_id=self.checkpoint.run_id,
        )
