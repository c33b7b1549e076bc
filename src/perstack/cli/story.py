"""A job's story in words: header, tree of runs, and one or two lines for each event."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from perstack.cli.history import Entry, Story
from perstack.cli.selection import ERRORS, Selection
from perstack.cli.summary import short, tokens
from perstack.cli.tree import tree
from perstack.core import events as ev
from perstack.core.checkpoint import Checkpoint, Job
from perstack.core.messages import TextPart, ToolResult, UserMessage
from perstack.core.wire import to_wire

QUERY_CHARACTERS = 60
RESULT_CHARACTERS = 40
ANSWER_CHARACTERS = 80


def header(story: Story) -> Iterator[str]:
    """Which job it is and how it stands."""
    job = story.view.job
    if story.is_latest:
        yield "(showing latest job)"
    yield f"Storage: {story.storage}"
    yield f"Job: {job.id} ({job.status})"
    yield f"Expert: {job.coordinator_expert_key}"
    yield f"Query: {short(job.query, ANSWER_CHARACTERS)}"
    yield f"Started: {date(job.started_at)}"
    yield f"Steps: {job.total_steps}"
    yield f"Tokens: {tokens(job.usage)}"
    if job.finished_at is not None:
        yield f"Finished: {date(job.finished_at)}"
    if story.view.trace_id is not None:
        yield f"Trace: {story.view.trace_id}"
    yield ""
    yield from tree(story.view.runs)


def event_lines(entry: Entry) -> Iterator[str]:
    """What happened, with a preview of what was said."""
    stamp = entry.event.stamp
    yield (
        f"[Step {stamp.step_number}] {entry.event.type}  {clock(stamp.timestamp)}"
        f"  {stamp.expert_key}"
    )
    yield from (f"  {line}" for line in _details(entry))


def footer(selection: Selection) -> str:
    """How much of it is shown."""
    return f"(showing {len(selection.shown)} of {selection.matched} matched events)"


def counts(entries: Sequence[Entry]) -> dict[str, Any]:
    """What there is in figures, named as in the JSON form of the log."""
    steps = [entry.event.stamp.step_number for entry in entries]
    calls = (entry.event for entry in entries)
    found: dict[str, Any] = {
        "totalEvents": len(entries),
        "errorCount": sum(entry.event.type in ERRORS for entry in entries),
        "toolCallCount": sum(
            len(event.targets) for event in calls if isinstance(event, ev.CallTools)
        ),
        "delegationCount": sum(
            len(entry.event.delegate_to)
            for entry in entries
            if isinstance(entry.event, ev.CallDelegate)
        ),
    }
    return found | ({"stepRange": {"min": min(steps), "max": max(steps)}} if steps else {})


def figures(entries: Sequence[Entry]) -> list[str]:
    """The counts in words, one a line."""
    found = counts(entries)
    steps = found.get("stepRange")
    return [
        f"events       {found['totalEvents']}",
        f"errors       {found['errorCount']}",
        f"tool calls   {found['toolCallCount']}",
        f"delegations  {found['delegationCount']}",
        *([f"steps        {steps['min']} to {steps['max']}"] if steps else []),
    ]


def document(story: Story, selection: Selection) -> dict[str, Any]:
    """The JSON form of the log."""
    job = story.view.job.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {
        "job": job,
        "events": [to_wire(entry.event, entry.checkpoint) for entry in selection.shown],
        "summary": counts(story.entries),
        "runs": [_run(run) for run in story.view.runs],
        "isLatestJob": story.is_latest,
        "storagePath": str(story.storage),
        "totalEventsBeforeLimit": selection.matched,
        "matchedAfterPagination": len(selection.shown),
    }


def _run(run: Checkpoint) -> dict[str, Any]:
    return {
        "id": run.run_id,
        "expertKey": run.expert.key,
        "status": run.status,
        "checkpointId": run.id,
        "delegatedBy": run.delegated_by.run_id if run.delegated_by else None,
        "usage": run.usage.model_dump(mode="json", by_alias=True),
    }


def job_line(job: Job) -> str:
    """One job of a list."""
    return (
        f"{job.id}  {date(job.started_at)}  {job.status:<24}  {job.coordinator_expert_key}"
        f"  {job.total_steps} steps  {short(job.query, QUERY_CHARACTERS)}"
    )


def date(at_ms: int) -> str:
    """A moment in local time."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(" ", timespec="seconds")


def clock(at_ms: int) -> str:
    """The time of day of a moment, local."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S")


def _details(entry: Entry) -> Iterator[str]:  # noqa: C901, PLR0912 - one flat case per event reads best
    match entry.event:
        case ev.StartRun() as event:
            yield from (f"query: {short(text, QUERY_CHARACTERS)}" for text in _spoken(event))
        case ev.CallTools() as event:
            for call in event.new_message.tool_calls:
                yield f"{call.tool_name}({short(_arguments(call.args), QUERY_CHARACTERS)})"
        case ev.RecordToolResult() | ev.AttemptCompletion() as event:
            yield _result(event.tool_result)
        case ev.ResolveToolResults():
            yield from (_result(result) for result in entry.checkpoint.tool_results)
        case ev.CallDelegate() as event:
            for delegation in event.delegate_to:
                yield f"⎇ {delegation.expert.key}: {short(delegation.query, QUERY_CHARACTERS)}"
        case ev.CallInteractiveTool() as event:
            calls = entry.checkpoint.tool_calls
            yield from (
                f"? {call.tool_name}({short(_arguments(call.args), QUERY_CHARACTERS)})"
                for call in calls
                if call.id == event.tool_call_id
            )
        case ev.Retry() as event:
            yield f"✗ {short(event.reason, ANSWER_CHARACTERS)}"
        case ev.StopRunByError() as event:
            yield f"✗ {event.error.name}: {short(event.error.message, ANSWER_CHARACTERS)}"
        case ev.StopRunByCancellation() as event:
            yield f"✗ {short(event.reason, ANSWER_CHARACTERS)}"
        case ev.CompleteRun() as event:
            yield f"✓ {short(event.text, ANSWER_CHARACTERS)}"
        case _:
            return


def _spoken(event: ev.StartRun) -> Iterator[str]:
    for message in event.input_messages:
        if isinstance(message, UserMessage):
            yield " ".join(part.text for part in message.contents if isinstance(part, TextPart))


def _arguments(args: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in args.items())


def _result(result: ToolResult) -> str:
    mark = "✗" if result.is_error else "✓"
    return f"{mark} {result.tool_name}: {short(result.text, RESULT_CHARACTERS)}"
