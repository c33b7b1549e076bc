"""What the runs of a job said and did, step by step, without ids and times: fit to be compared."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    TextPart,
    ToolResult,
    Usage,
    UserMessage,
)
from perstack.core.trail import Step

Content = dict[str, list[Any]]
"""What was told, said, called, answered, checked and what failed; each only if there is any."""


@dataclass(slots=True)
class StepTale:
    """One step of a run.

    Attributes:
        number: Its number within the job.
        content: What happened in it.
    """

    number: int
    content: Content = field(default_factory=Content)


@dataclass(slots=True)
class RunTale:
    """One run.

    Attributes:
        run_id: Its id.
        newest: Its newest checkpoint.
        steps: What it did.
        children: The runs that it delegated to, in the order of its calls.
        base: The run that it continues, and the number of the last step that it took over.
    """

    run_id: str
    newest: Checkpoint
    steps: list[StepTale] = field(default_factory=list[StepTale])
    children: list["RunTale"] = field(default_factory=list["RunTale"])
    base: tuple["RunTale", int] | None = None

    @property
    def expert_key(self) -> str:
        """Whose run it is."""
        return self.newest.expert.key

    def whole(self) -> "RunTale":
        """The run with the steps of the runs that it continues, as far as it took them over."""
        if self.base is None:
            return self
        earlier, last = self.base[0].whole(), self.base[1]
        taken = [step for step in earlier.steps if step.number <= last]
        delegated = {child.run_id for child in self.children}
        children = [
            child
            for child in earlier.children
            if child.run_id not in delegated and child.steps[0].number <= last
        ]
        return RunTale(self.run_id, self.newest, [*taken, *self.steps], [*children, *self.children])

    def all(self) -> Iterator["RunTale"]:
        """This run and all below it."""
        yield self
        for child in self.children:
            yield from child.all()


def tales(trail: Sequence[Step]) -> list[RunTale]:
    """The runs that nobody delegated, in order, each with those below it."""
    runs: dict[str, RunTale] = {}
    numbers: dict[str, int] = {}
    for event, after in trail:
        run = runs.setdefault(after.run_id, RunTale(after.run_id, after))
        numbers[after.id] = event.stamp.step_number
        if event.stamp.sequence == 1 and after.parent_id is not None:
            run.base = (runs[after.parent_id.rpartition("-")[0]], numbers[after.parent_id])
        run.newest = after
        number = event.stamp.step_number
        if not run.steps or run.steps[-1].number != number:
            run.steps.append(StepTale(number))
        _tell(run.steps[-1].content, event)
    for event, after in trail:
        if isinstance(event, ev.CallDelegate):
            runs[after.run_id].children += [
                runs[delegation.run_id]
                for delegation in event.delegate_to
                if delegation.run_id in runs
            ]
    for run in runs.values():
        for step in run.steps:
            _in_call_order(step.content)
    return [run for run in runs.values() if run.newest.delegated_by is None]


def usage_of(runs: Iterable[RunTale]) -> Usage:
    """The tokens of these runs."""
    return sum((run.newest.usage for run in runs), Usage())


def _tell(content: Content, event: ev.RunEvent) -> None:  # noqa: C901 - one flat case per event reads best
    match event:
        case ev.StartRun():
            _opening(content, event)
        case ev.CallTools():
            _said(content, event.new_message)
            calls = content.setdefault("calls", [])
            for call in event.new_message.tool_calls:
                calls.append({"id": call.tool_call_id, "name": call.tool_name, "args": call.args})
        case ev.CompleteRun() | ev.StartVerification():
            if event.new_message is not None:
                _said(content, event.new_message)
            if isinstance(event, ev.CompleteRun):
                content.setdefault("answer", []).append(event.text)
        case ev.RecordToolResult() | ev.AttemptCompletion():
            content.setdefault("results", []).append(_result(event.tool_result))
        case ev.RecordVerification():
            found = event.verification
            content.setdefault("checks", []).append({"name": found.name, "passed": found.passed})
        case ev.Retry():
            content.setdefault("retries", []).append(event.reason)
        case ev.StopRunByError():
            told = {"name": event.error.name, "message": event.error.message}
            content.setdefault("errors", []).append(told)
        case ev.StopRunByCancellation() | ev.StopRunByExceededMaxSteps():
            content.setdefault("stops", []).append(event.type)
        case _:
            return


def _opening(content: Content, event: ev.StartRun) -> None:
    for message in event.input_messages:
        if isinstance(message, InstructionMessage):
            content.setdefault("instruction", []).append(message.stable)
        elif isinstance(message, UserMessage):
            said = [part.text for part in message.contents if isinstance(part, TextPart)]
            content.setdefault("query", []).append("".join(said))


def _said(content: Content, message: ExpertMessage) -> None:
    if message.text:
        content.setdefault("text", []).append(message.text)


def _result(result: ToolResult) -> dict[str, Any]:
    others = [part.type for part in result.result if not isinstance(part, TextPart)]
    told = {"id": result.id, "name": result.tool_name, "text": result.text}
    return {
        **told,
        **({"isError": True} if result.is_error else {}),
        **({"parts": others} if others else {}),
    }


def _in_call_order(content: Content) -> None:
    """Put the results in the order of the calls, as they arrive by chance; ids have served then."""
    order = {call["id"]: position for position, call in enumerate(content.get("calls", ()))}
    if "results" in content:
        content["results"].sort(key=lambda result: order.get(result["id"], -1))
    for told in (*content.get("calls", ()), *content.get("results", ())):
        del told["id"]
