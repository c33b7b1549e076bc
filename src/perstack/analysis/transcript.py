"""What the runs of a job said and did, step by step, without ids and times: fit to be compared."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint
from perstack.core.history import RecordedEvent
from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    TextPart,
    ToolResult,
    Usage,
    UserMessage,
)

StepContent = dict[str, list[Any]]
"""What was told, said, called, answered, checked and what failed; each only if there is any."""


@dataclass(slots=True)
class StepTranscript:
    """One step of a run.

    Attributes:
        number: Its number within the job.
        content: What happened in it.
    """

    number: int
    content: StepContent = field(default_factory=StepContent)


@dataclass(slots=True)
class RunTranscript:
    """One run.

    Attributes:
        run_id: Its id.
        newest_checkpoint: Its newest checkpoint.
        steps: What it did.
        children: The runs that it delegated to, in the order of its calls.
        base: The run that it continues, and the number of the last step that it took over.
    """

    run_id: str
    newest_checkpoint: Checkpoint
    steps: list[StepTranscript] = field(default_factory=list[StepTranscript])
    children: list["RunTranscript"] = field(default_factory=list["RunTranscript"])
    base: tuple["RunTranscript", int] | None = None

    @property
    def expert_key(self) -> str:
        """Whose run it is."""
        return self.newest_checkpoint.expert.key

    def with_history(self) -> "RunTranscript":
        """The run with the steps of the runs that it continues, as far as it took them over."""
        if self.base is None:
            return self
        earlier, last = self.base[0].with_history(), self.base[1]
        inherited = [step for step in earlier.steps if step.number <= last]
        delegated = {child.run_id for child in self.children}
        children = [
            child
            for child in earlier.children
            if child.run_id not in delegated and child.steps[0].number <= last
        ]
        return RunTranscript(
            self.run_id,
            self.newest_checkpoint,
            [*inherited, *self.steps],
            [*children, *self.children],
        )

    def walk(self) -> Iterator["RunTranscript"]:
        """This run and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def transcripts(history: Sequence[RecordedEvent]) -> list[RunTranscript]:
    """The root runs in order, each with its delegates."""
    runs: dict[str, RunTranscript] = {}
    step_numbers: dict[str, int] = {}
    for event, after in history:
        run = runs.setdefault(after.run_id, RunTranscript(after.run_id, after))
        step_numbers[after.id] = event.stamp.step_number
        if event.stamp.sequence == 1 and after.parent_id is not None:
            run.base = (
                runs[ev.parse_checkpoint_id(after.parent_id).run_id],
                step_numbers[after.parent_id],
            )
        run.newest_checkpoint = after
        number = event.stamp.step_number
        if not run.steps or run.steps[-1].number != number:
            run.steps.append(StepTranscript(number))
        _add_event(run.steps[-1].content, event)
    for event, after in history:
        if isinstance(event, ev.CallDelegate):
            runs[after.run_id].children += [
                runs[delegation.run_id]
                for delegation in event.delegate_to
                if delegation.run_id in runs
            ]
    for run in runs.values():
        for step in run.steps:
            _sort_results_by_call(step.content)
    return [run for run in runs.values() if run.newest_checkpoint.delegated_by is None]


def total_usage(runs: Iterable[RunTranscript]) -> Usage:
    """The tokens of these runs."""
    return sum((run.newest_checkpoint.usage for run in runs), Usage())


def _add_event(content: StepContent, event: ev.RunEvent) -> None:  # noqa: C901, PLR0912 - one flat case per event reads best
    match event:
        case ev.StartRun():
            _add_input(content, event)
        case ev.CallTools():
            _add_text(content, event.new_message)
            calls = content.setdefault("calls", [])
            for call in event.new_message.tool_calls:
                calls.append({"id": call.tool_call_id, "name": call.tool_name, "args": call.args})
        case ev.CompleteRun() | ev.StartVerification():
            if event.new_message is not None:
                _add_text(content, event.new_message)
            if isinstance(event, ev.CompleteRun):
                content.setdefault("answer", []).append(event.text)
        case ev.RecordToolResult() | ev.AttemptCompletion():
            content.setdefault("results", []).append(_tool_result_document(event.tool_result))
        case ev.RecordVerification():
            verification = event.verification
            content.setdefault("checks", []).append(
                {"name": verification.name, "passed": verification.passed}
            )
        case ev.CompactHistory():
            content.setdefault("summaries", []).append(event.summary)
        case ev.Retry():
            content.setdefault("retries", []).append(event.reason)
            if event.fallback is not None:
                content.setdefault("fallbacks", []).append(event.fallback.model)
        case ev.StopRunByError():
            error = {"name": event.error.name, "message": event.error.message}
            content.setdefault("errors", []).append(error)
        case (
            ev.StopRunByCancellation()
            | ev.StopRunByExceededMaxSteps()
            | ev.StopRunByExceededBudget()
        ):
            content.setdefault("stops", []).append(event.type)
        case _:
            return


def _add_input(content: StepContent, event: ev.StartRun) -> None:
    for message in event.input_messages:
        if isinstance(message, InstructionMessage):
            content.setdefault("instruction", []).append(message.stable)
        elif isinstance(message, UserMessage):
            texts = [part.text for part in message.contents if isinstance(part, TextPart)]
            content.setdefault("query", []).append("".join(texts))


def _add_text(content: StepContent, message: ExpertMessage) -> None:
    if message.text:
        content.setdefault("text", []).append(message.text)


def _tool_result_document(result: ToolResult) -> dict[str, Any]:
    other_types = [part.type for part in result.result if not isinstance(part, TextPart)]
    document = {"id": result.id, "name": result.tool_name, "text": result.text}
    return {
        **document,
        **({"isError": True} if result.is_error else {}),
        **({"parts": other_types} if other_types else {}),
    }


def _sort_results_by_call(content: StepContent) -> None:
    """Put the results in the order of the calls, as they arrive by chance; ids have served then."""
    order = {call["id"]: position for position, call in enumerate(content.get("calls", ()))}
    if "results" in content:
        content["results"].sort(key=lambda result: order.get(result["id"], -1))
    for item in (*content.get("calls", ()), *content.get("results", ())):
        del item["id"]
