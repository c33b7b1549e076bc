"""Runs as they are written down: the events of whole steps, without a runtime."""

from perstack.core import events as ev
from perstack.core.checkpoint import JobStatus
from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    TextPart,
    ToolCallPart,
    ToolResult,
    Usage,
    UserMessage,
)
from perstack.runtime.ports import Lease, Store

EXPERT = ev.ExpertRef(key="researcher", name="researcher", version="1.0.0")
USAGE = Usage(input_tokens=90, output_tokens=10, total_tokens=100)


class RunStory:
    """Makes the events of one run, in sequence."""

    def __init__(
        self,
        job_id: str = "job",
        run_id: str = "run",
        *,
        expert: str = "researcher",
        at: int = 1000,
    ) -> None:
        self.job_id = job_id
        self.run_id = run_id
        self.expert = ev.ExpertRef(key=expert, name=expert, version="1.0.0")
        self.now = at
        self.sequence = 0
        self.step_number = 1

    def stamp(self) -> ev.Stamp:
        self.sequence += 1
        self.now += 1
        return ev.Stamp(
            job_id=self.job_id,
            run_id=self.run_id,
            expert_key=self.expert.key,
            step_number=self.step_number,
            sequence=self.sequence,
            timestamp=self.now,
        )

    def start(
        self,
        query: str = "Find it.",
        *,
        delegated_by: ev.DelegatedBy | None = None,
        continued_from: str | None = None,
    ) -> ev.StartRun:
        return ev.StartRun(
            stamp=self.stamp(),
            expert=self.expert,
            provider="scripted",
            model="play",
            input_messages=(
                InstructionMessage(stable="Be brief."),
                UserMessage(contents=(TextPart(text=query),)),
            ),
            step_limit=100,
            delegated_by=delegated_by,
            continued_from=continued_from,
        )

    def branch(self, continued_from: str) -> ev.ResumeFromStop:
        return ev.ResumeFromStop(stamp=self.stamp(), continued_from=continued_from)

    def resume(self) -> ev.ResumeFromStop:
        return ev.ResumeFromStop(stamp=self.stamp())

    def generate(self) -> ev.StartGeneration:
        return ev.StartGeneration(stamp=self.stamp())

    def step(self, said: str = "I look.", found: str = "Nothing.") -> tuple[ev.RunEvent, ...]:
        """The seven events of a step with one tool call."""
        call = ToolCallPart(
            tool_call_id=f"call-{self.step_number}", tool_name="readTextFile", args={"path": "a.md"}
        )
        target = ev.ToolTarget(tool_call_id=call.tool_call_id, skill_name="base", kind="mcp")
        result = ToolResult(
            id=call.tool_call_id,
            skill_name="base",
            tool_name=call.tool_name,
            result=(TextPart(text=found),),
        )
        message = ExpertMessage(contents=(TextPart(text=said), call))
        step = (
            self.generate(),
            ev.CallTools(stamp=self.stamp(), new_message=message, targets=(target,), usage=USAGE),
            ev.StartToolCalls(stamp=self.stamp(), tool_call_ids=(call.tool_call_id,)),
            ev.RecordToolResult(stamp=self.stamp(), tool_result=result),
            ev.ResolveToolResults(stamp=self.stamp()),
            ev.FinishToolCall(stamp=self.stamp()),
            ev.ContinueToNextStep(stamp=self.stamp(), next_step_number=self.step_number + 1),
        )
        self.step_number += 1
        return step

    def answer(
        self, call_id: str, text: str, *, whole_text: str | None = None
    ) -> ev.RecordToolResult:
        """The answer to a call, shortened if `whole_text` is more."""
        parts = (TextPart(text=text),)
        result = ToolResult(id=call_id, skill_name="web", tool_name="get", result=parts)
        return ev.RecordToolResult(stamp=self.stamp(), tool_result=result, whole_text=whole_text)

    def complete(self, text: str = "Found.") -> ev.CompleteRun:
        message = ExpertMessage(contents=(TextPart(text=text),))
        return ev.CompleteRun(stamp=self.stamp(), text=text, new_message=message, usage=USAGE)

    def fail(self) -> ev.StopRunByError:
        error = ev.RunError(name="AuthenticationError", message="refused", status_code=401)
        return ev.StopRunByError(stamp=self.stamp(), error=error, usage=USAGE)

    def cancel(self) -> ev.StopRunByCancellation:
        return ev.StopRunByCancellation(stamp=self.stamp(), reason="asked to")

    def ask(self) -> ev.StopRunByInteractiveTool:
        return ev.StopRunByInteractiveTool(stamp=self.stamp())

    def wait(self) -> ev.StopRunByDelegate:
        return ev.StopRunByDelegate(stamp=self.stamp())

    def exhaust(self) -> ev.StopRunByExceededMaxSteps:
        return ev.StopRunByExceededMaxSteps(stamp=self.stamp())

    def delegate(self, run_id: str, expert: str = "@researcher/reader") -> "RunStory":
        """A child run of this one."""
        return RunStory(self.job_id, run_id, expert=expert, at=self.now)

    def as_delegator(self) -> ev.DelegatedBy:
        return ev.DelegatedBy(
            expert=self.expert,
            tool_call_id="call-1",
            tool_name="reader",
            checkpoint_id=f"{self.run_id}-{self.sequence}",
            run_id=self.run_id,
        )


async def write(store: Store, *events: ev.RunEvent) -> Lease:
    """Take the job of the events and write them; the lease is kept."""
    lease = await store.acquire(events[0].stamp.job_id)
    await store.append(events, lease)
    return lease


async def status_of(store: Store, job_id: str = "job") -> JobStatus:
    return (await store.load(job_id)).job.status
