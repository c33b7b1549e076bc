"""How `perstack log` shows jobs and events: as text for people, or as JSON."""

import json
from argparse import Namespace
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from perstack.cli.event_filter import EventCounts, EventFilter, SelectedEvent
from perstack.cli.event_stream import format_usage, shorten
from perstack.cli.job_log import JobLog
from perstack.cli.job_tree import tree_lines
from perstack.cli.render.events import event_lines
from perstack.cli.terminal import Terminal
from perstack.core.checkpoint import Checkpoint, Job
from perstack.core.messages import (
    ExpertPart,
    InstructionMessage,
    Message,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
    UserPart,
)
from perstack.core.wire import checkpoint_to_wire, to_wire

MAX_QUERY_CHARACTERS = 60
MAX_ANSWER_CHARACTERS = 80
ROLE_LABELS = {
    "instructionMessage": "instruction",
    "userMessage": "user",
    "expertMessage": "expert",
    "toolMessage": "tools",
}


def header_lines(job_log: JobLog) -> Iterator[str]:
    """The job and its status."""
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
    """The state of a run at a checkpoint."""
    yield f"Checkpoint: {checkpoint.id} ({checkpoint.status})"
    yield f"Run: {checkpoint.run_id} of {checkpoint.expert.key}, with {checkpoint.model}"
    yield f"At: step {checkpoint.step_number}, {format_timestamp(checkpoint.updated_at)}"
    yield f"Conversation: {len(checkpoint.messages)} messages, {format_usage(checkpoint.usage)}"
    for call in checkpoint.pending_tool_calls:
        yield f"Unanswered: {call.tool_name} {call.id}"
    if checkpoint.error is not None:
        yield f"Error: {checkpoint.error.name}: {checkpoint.error.message}"


def conversation_lines(checkpoint: Checkpoint) -> Iterator[str]:
    """The messages of a run up to a checkpoint."""
    for message in checkpoint.messages:
        yield f"{ROLE_LABELS[message.type]}:"
        for text in _message_texts(message):
            yield from (f"  {line}".rstrip() for line in text.splitlines())


def _message_texts(message: Message) -> Iterator[str]:
    if isinstance(message, InstructionMessage):
        yield from (text for text in (message.stable, message.volatile) if text)
        return
    for part in message.contents:
        yield _part_text(part)


def _part_text(part: UserPart | ExpertPart | ToolResultPart) -> str:
    match part:
        case TextPart():
            return part.text
        case ThinkingPart():
            return f"(thinking) {part.thinking}"
        case ToolCallPart():
            return f"→ {part.tool_name} {json.dumps(part.args, ensure_ascii=False)}"
        case ToolResultPart():
            mark = "✗" if part.is_error else "✓"
            return (
                f"{mark} {part.tool_name}: {' '.join(_part_text(inner) for inner in part.contents)}"
            )
        case _:
            return f"({part.type} {part.mime_type})"


def footer_line(event_filter: EventFilter) -> str:
    """How much of it is shown."""
    context_note = f" (+{event_filter.context_count} context)" if event_filter.context_count else ""
    matched_count = event_filter.matched.events
    return f"(showing {event_filter.shown_count} of {matched_count} matched events{context_note})"


def count_lines(counts: EventCounts) -> list[str]:
    """The counts as text, one a line."""
    return [
        f"events       {counts.events}",
        f"errors       {counts.errors}",
        f"tool calls   {counts.tool_calls}",
        f"delegations  {counts.delegations}",
        *([f"steps        {counts.steps[0]} to {counts.steps[1]}"] if counts.steps else []),
    ]


def job_line(job: Job) -> str:
    """One job of a list."""
    return (
        f"{job.id}  {format_timestamp(job.started_at)}  {job.status:<24}"
        f"  {job.coordinator_expert_key}  {job.total_steps} steps"
        f"  {shorten(job.query, MAX_QUERY_CHARACTERS)}"
    )


def format_timestamp(at_ms: int) -> str:
    """A moment in local time."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(" ", timespec="seconds")


Json = dict[str, Any]


def log_document(
    job_log: JobLog,
    selected_events: Iterable[SelectedEvent],
    event_filter: EventFilter,
    checkpoint: Json | None,
) -> Json:
    """The complete log as JSON.

    Args:
        job_log: The job.
        selected_events: The events to show, in order.
        event_filter: The filter that selected them.
        checkpoint: The requested one, see `checkpoint_document`.
    """
    return {
        "job": job_document(job_log.view.job),
        "events": [event_document(selected) for selected in selected_events],
        "summary": counts_document(event_filter.matched),
        **({"checkpoint": checkpoint} if checkpoint is not None else {}),
        "checkpoints": [
            _stop_document(entry.checkpoint)
            for entry in job_log.entries
            if entry.event.type == "completeRun" or entry.event.type.startswith("stopRunBy")
        ],
        "runs": [_run_document(run) for run in job_log.view.runs],
        "isLatestJob": job_log.is_latest,
        "storagePath": str(job_log.storage),
        "totalEventsBeforeLimit": event_filter.matched.events,
        "matchedAfterPagination": event_filter.shown_count,
    }


def job_document(job: Job) -> Json:
    """A job's summary."""
    return job.model_dump(mode="json", by_alias=True, exclude_none=True)


def event_document(selected: SelectedEvent) -> Json:
    """An event in its wire form; `isContext` marks an event shown only as context."""
    event = to_wire(selected.entry.event, selected.entry.checkpoint)
    return {**event, "isContext": True} if selected.is_context else event


def checkpoint_document(checkpoint: Checkpoint, *, has_messages: bool) -> Json:
    """A checkpoint, with its conversation or without."""
    wire_checkpoint = checkpoint_to_wire(checkpoint)
    return (
        wire_checkpoint
        if has_messages
        else {name: value for name, value in wire_checkpoint.items() if name != "messages"}
    )


def counts_document(counts: EventCounts) -> Json:
    """What events add up to."""
    document: Json = {
        "totalEvents": counts.events,
        "errorCount": counts.errors,
        "toolCallCount": counts.tool_calls,
        "delegationCount": counts.delegations,
    }
    if counts.steps:
        document["stepRange"] = {"min": counts.steps[0], "max": counts.steps[1]}
    return document


def _stop_document(checkpoint: Checkpoint) -> Json:
    return {
        "id": checkpoint.id,
        "runId": checkpoint.run_id,
        "stepNumber": checkpoint.step_number,
        "status": checkpoint.status,
        "timestamp": checkpoint.updated_at,
    }


def _run_document(run: Checkpoint) -> Json:
    return {
        "id": run.run_id,
        "expertKey": run.expert.key,
        "status": run.status,
        "checkpointId": run.id,
        "delegatedBy": run.delegated_by.run_id if run.delegated_by else None,
        "usage": run.usage.model_dump(mode="json", by_alias=True),
    }


class LogView:
    """Writes to a terminal in the form that the options ask for."""

    def __init__(self, options: Namespace, terminal: Terminal) -> None:
        self._terminal = terminal
        self._is_json: bool = options.json or options.pretty
        self._indent = 2 if options.pretty else None
        self._is_verbose: bool = options.verbose
        self._has_messages: bool = options.messages

    def show_jobs(self, jobs: Iterable[Job]) -> None:
        """A list of jobs."""
        if self._is_json:
            self._write_json([job_document(job) for job in jobs])
            return
        for job in jobs:
            self._terminal.write_line(job_line(job))

    def show_job(
        self, job_log: JobLog, event_filter: EventFilter, checkpoint: Checkpoint | None
    ) -> None:
        """A job with the selected events, and a checkpoint of it if that is of interest."""
        if self._is_json:
            selected_events = [
                selected for entry in job_log.entries for selected in event_filter.select(entry)
            ]
            self._write_json(
                log_document(
                    job_log, selected_events, event_filter, self._checkpoint_document(checkpoint)
                )
            )
            return
        self._write_header(job_log)
        self._terminal.write_line()
        self._write_tree(job_log)
        if checkpoint is not None:
            self._write_checkpoint(checkpoint)
        self._terminal.write_line()
        for entry in job_log.entries:
            self.show_events(event_filter.select(entry))
        self._terminal.write_line(footer_line(event_filter))

    def show_summary(self, job_log: JobLog, event_filter: EventFilter) -> None:
        """A job with what the selected events add up to."""
        for entry in job_log.entries:
            for _ in event_filter.select(entry):
                pass
        if self._is_json:
            self._write_json(log_document(job_log, (), event_filter, None))
            return
        self._write_header(job_log)
        self._terminal.write_line()
        self._write_tree(job_log)
        self._terminal.write_line()
        for line in count_lines(event_filter.matched):
            self._terminal.write_line(line)

    def show_header(self, job_log: JobLog) -> None:
        """The header above events that are still to come."""
        if not self._is_json:
            self._write_header(job_log)
            self._terminal.write_line()

    def show_events(self, selected_events: Iterable[SelectedEvent]) -> None:
        """Events, in JSON one a line."""
        for selected in selected_events:
            if self._is_json:
                self._terminal.write_line(_compact_json(event_document(selected)))
            else:
                self._write_event(selected)

    def show_footer(self, job_log: JobLog, event_filter: EventFilter) -> None:
        """The footer below the events of a stopped job."""
        if not self._is_json:
            self._terminal.write_line()
            self._write_tree(job_log)
            self._terminal.write_line()
            self._terminal.write_line(footer_line(event_filter))
            self._terminal.write_line(f"Job: {job_log.view.job.id} ({job_log.view.job.status})")

    def _write_header(self, job_log: JobLog) -> None:
        for line in header_lines(job_log):
            self._terminal.write_line(line)

    def _write_tree(self, job_log: JobLog) -> None:
        for line in tree_lines(job_log.entries, job_log.view.job.status):
            self._terminal.write_line(line)

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        self._terminal.write_line()
        for line in checkpoint_lines(checkpoint):
            self._terminal.write_line(line)
        if self._has_messages:
            self._terminal.write_line()
            for line in conversation_lines(checkpoint):
                self._terminal.write_line(line)

    def _write_event(self, selected: SelectedEvent) -> None:
        first, *rest = event_lines(selected.entry, is_verbose=self._is_verbose)
        is_failure = "Error" in selected.entry.event.type and not selected.is_context
        context_style = ("dim",) if selected.is_context else ()
        self._terminal.write_line(first, *(("red",) if is_failure else context_style))
        for line in rest:
            self._terminal.write_line(line, "dim")

    def _checkpoint_document(self, checkpoint: Checkpoint | None) -> dict[str, Any] | None:
        if checkpoint is None:
            return None
        return checkpoint_document(checkpoint, has_messages=self._has_messages)

    def _write_json(self, value: object) -> None:
        self._terminal.write_line(json.dumps(value, ensure_ascii=False, indent=self._indent))


def _compact_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
