"""How `perstack log` shows jobs and events: as text for people, or as JSON."""

import json
from argparse import Namespace
from collections.abc import Iterable, Iterator
from typing import Any

from perstack.cli.event_filter import EventCounts, EventFilter, SelectedEvent
from perstack.cli.formatting import format_count, format_timestamp, format_usage, shorten
from perstack.cli.job_log import JobLog
from perstack.cli.job_tree import tree_lines
from perstack.cli.render.events import event_lines
from perstack.cli.terminal import Terminal
from perstack.core.checkpoint import Checkpoint, Job
from perstack.core.messages import (
    ExpertPart,
    InstructionMessage,
    Message,
    ProviderPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    UserPart,
)
from perstack.core.wire import checkpoint_to_wire, to_wire
from perstack.errors import PerstackError
from perstack.models import FrozenModel

Json = dict[str, Any]

MAX_QUERY_CHARACTERS = 60
MAX_ANSWER_CHARACTERS = 80
ROLE_LABELS = {
    "instructionMessage": "instruction",
    "userMessage": "user",
    "expertMessage": "expert",
    "toolMessage": "tools",
}


class LogView:
    """Writes to a terminal in the form that the options ask for."""

    def __init__(self, options: Namespace, terminal: Terminal) -> None:
        self._options = options
        self._terminal = terminal
        self._is_json: bool = options.json or options.pretty
        self._indent = 2 if options.pretty else None

    def show_nothing(self, reason: PerstackError) -> None:
        """That there is no job; readers of a stream of events get an empty one."""
        if self._is_json and self._options.follow:
            self._terminal.error(reason)
        elif self._is_json:
            empty: object = [] if self._options.jobs else {"job": None, "events": []}
            self._terminal.write_json(empty, indent=self._indent)
        else:
            self._terminal.write_line(reason.message)
            self._terminal.info(f"  {reason.hint}")

    def show_jobs(self, jobs: Iterable[Job]) -> None:
        if self._is_json:
            documents = [_model_document(job) for job in jobs]
            self._terminal.write_json(documents, indent=self._indent)
        else:
            self._terminal.write_lines(map(job_line, jobs))

    def show_job(
        self, job_log: JobLog, event_filter: EventFilter, checkpoint: Checkpoint | None
    ) -> None:
        """A job with the selected events, or only their totals, and the requested checkpoint."""
        selected_events = [
            selected for entry in job_log.entries for selected in event_filter.select(entry)
        ]
        if self._options.summary:
            selected_events, checkpoint = [], None
        if self._is_json:
            wire_checkpoint = checkpoint_to_wire(checkpoint) if checkpoint is not None else None
            if wire_checkpoint is not None and not self._options.messages:
                wire_checkpoint.pop("messages", None)
            document = log_document(job_log, selected_events, event_filter, wire_checkpoint)
            self._terminal.write_json(document, indent=self._indent)
            return
        self.show_header(job_log)
        self._write_tree(job_log)
        if checkpoint is not None:
            self._terminal.write_lines(checkpoint_lines(checkpoint))
            if self._options.messages:
                self._terminal.write_lines(conversation_lines(checkpoint))
        self._terminal.write_line()
        if self._options.summary:
            self._terminal.write_lines(count_lines(event_filter.matched))
            return
        self.show_events(selected_events)
        self._terminal.write_line(footer_line(event_filter))

    def show_header(self, job_log: JobLog) -> None:
        """The header above the rest of a log."""
        if not self._is_json:
            self._terminal.write_lines(header_lines(job_log))
            self._terminal.write_line()

    def show_events(self, selected_events: Iterable[SelectedEvent]) -> None:
        """Events, in JSON one a line."""
        for selected in selected_events:
            if self._is_json:
                document = _event_document(selected)
                line = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
                self._terminal.write_line(line)
                continue
            first, *rest = event_lines(selected.entry, is_verbose=self._options.verbose)
            is_failure = "Error" in selected.entry.event.type
            style = "dim" if selected.is_context else "red" if is_failure else None
            self._terminal.write_line(first, style)
            self._terminal.write_lines((line, "dim") for line in rest)

    def show_footer(self, job_log: JobLog, event_filter: EventFilter) -> None:
        """The footer below the events of a stopped job."""
        if not self._is_json:
            job = job_log.view.job
            self._terminal.write_line()
            self._write_tree(job_log)
            self._terminal.write_line()
            self._terminal.write_line(footer_line(event_filter))
            self._terminal.write_line(f"Job: {job.id} ({job.status})")

    def _write_tree(self, job_log: JobLog) -> None:
        self._terminal.write_lines(tree_lines(job_log.entries, job_log.view.job.status))


def header_lines(job_log: JobLog) -> Iterator[str]:
    job = job_log.view.job
    if job_log.is_latest:
        yield "(showing latest job)"
    yield f"Storage: {job_log.storage}"
    yield f"Job: {job.id} ({job.status})"
    yield f"Expert: {job.coordinator_expert_key}"
    yield f"Query: {shorten(job.query, MAX_ANSWER_CHARACTERS)}"
    yield f"Started: {format_timestamp(job.started_at)}"
    yield f"Steps: {job.total_steps}"
    yield f"Tokens: {format_usage(job.usage)}"
    if job.finished_at is not None:
        yield f"Finished: {format_timestamp(job.finished_at)}"
    if job_log.view.trace_id is not None:
        yield f"Trace: {job_log.view.trace_id}"


def checkpoint_lines(checkpoint: Checkpoint) -> Iterator[str]:
    """The state of a run at a checkpoint, after an empty line."""
    yield ""
    yield f"Checkpoint: {checkpoint.id} ({checkpoint.status})"
    yield f"Run: {checkpoint.run_id} of {checkpoint.expert.key}, with {checkpoint.model}"
    yield f"At: step {checkpoint.step_number}, {format_timestamp(checkpoint.updated_at)}"
    yield f"Conversation: {len(checkpoint.messages)} messages, {format_usage(checkpoint.usage)}"
    for call in checkpoint.pending_tool_calls:
        yield f"Unanswered: {call.tool_name} {call.id}"
    if checkpoint.error is not None:
        yield f"Error: {checkpoint.error.name}: {checkpoint.error.message}"


def conversation_lines(checkpoint: Checkpoint) -> Iterator[str]:
    """The messages of a run up to a checkpoint, after an empty line."""
    yield ""
    for message in checkpoint.messages:
        yield f"{ROLE_LABELS[message.type]}:"
        for text in _message_texts(message):
            yield from (f"  {line}".rstrip() for line in text.splitlines())


def _message_texts(message: Message) -> Iterator[str]:
    if isinstance(message, InstructionMessage):
        yield from (text for text in (message.stable, message.volatile) if text)
    else:
        yield from map(_part_text, message.contents)


def _part_text(part: UserPart | ExpertPart | ToolResultPart) -> str:
    match part:
        case TextPart():
            return part.text
        case ThinkingPart():
            return f"(thinking) {part.thinking}"
        case ToolCallPart():
            return f"→ {part.tool_name} {json.dumps(part.args, ensure_ascii=False)}"
        case ProviderPart():
            return f"(the provider called {', '.join(part.tools) or 'no tool'})"
        case ToolResultPart():
            mark = "✗" if part.is_error else "✓"
            return f"{mark} {part.tool_name}: {' '.join(map(_part_text, part.contents))}"
        case _:
            return f"({part.type} {part.mime_type})"


def footer_line(event_filter: EventFilter) -> str:
    """How much of it is shown."""
    context_note = f" (+{event_filter.context_count} context)" if event_filter.context_count else ""
    matched_count = event_filter.matched.events
    return f"(showing {event_filter.shown_count} of {matched_count} matched events{context_note})"


def count_lines(counts: EventCounts) -> Iterator[str]:
    """The totals, one a line."""
    yield f"events       {counts.events}"
    yield f"errors       {counts.errors}"
    yield f"tool calls   {counts.tool_calls}"
    yield f"delegations  {counts.delegations}"
    if counts.steps:
        yield f"steps        {counts.steps[0]} to {counts.steps[1]}"


def job_line(job: Job) -> str:
    return (
        f"{job.id}  {format_timestamp(job.started_at)}  {job.status:<24}"
        f"  {job.coordinator_expert_key}  {format_count(job.total_steps, 'step')}"
        f"  {shorten(job.query, MAX_QUERY_CHARACTERS)}"
    )


def log_document(
    job_log: JobLog,
    selected_events: Iterable[SelectedEvent],
    event_filter: EventFilter,
    checkpoint: Json | None,
) -> Json:
    """The complete log as JSON; `checkpoint` is the requested one in its wire form."""
    counts = event_filter.matched
    steps = counts.steps
    return {
        "job": _model_document(job_log.view.job),
        "events": [_event_document(selected) for selected in selected_events],
        "summary": {
            "totalEvents": counts.events,
            "errorCount": counts.errors,
            "toolCallCount": counts.tool_calls,
            "delegationCount": counts.delegations,
            **({"stepRange": {"min": steps[0], "max": steps[1]}} if steps else {}),
        },
        **({"checkpoint": checkpoint} if checkpoint is not None else {}),
        "checkpoints": [
            {
                "id": entry.checkpoint.id,
                "runId": entry.checkpoint.run_id,
                "stepNumber": entry.checkpoint.step_number,
                "status": entry.checkpoint.status,
                "timestamp": entry.checkpoint.updated_at,
            }
            for entry in job_log.entries
            if entry.event.type == "completeRun" or entry.event.type.startswith("stopRunBy")
        ],
        "runs": [
            {
                "id": run.run_id,
                "expertKey": run.expert.key,
                "status": run.status,
                "checkpointId": run.id,
                "delegatedBy": run.delegated_by.run_id if run.delegated_by else None,
                "usage": _model_document(run.usage),
            }
            for run in job_log.view.runs
        ],
        "isLatestJob": job_log.is_latest,
        "storagePath": str(job_log.storage),
        "totalEventsBeforeLimit": counts.events,
        "matchedAfterPagination": event_filter.shown_count,
    }


def _model_document(model: FrozenModel) -> Json:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _event_document(selected: SelectedEvent) -> Json:
    """An event in its wire form; `isContext` marks an event shown only as context."""
    event = to_wire(selected.entry.event, selected.entry.checkpoint, selected.step)
    return {**event, "isContext": True} if selected.is_context else event
