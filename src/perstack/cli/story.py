"""A job's story in words: its header, its figures, and a checkpoint with its conversation."""

import json
from collections.abc import Iterator
from datetime import datetime

from perstack.cli.history import Story
from perstack.cli.selection import Counts, Selection
from perstack.cli.summary import short, tokens
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

QUERY_CHARACTERS = 60
ANSWER_CHARACTERS = 80
SPEAKERS = {
    "instructionMessage": "instruction",
    "userMessage": "user",
    "expertMessage": "expert",
    "toolMessage": "tools",
}


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


def checkpoint_lines(checkpoint: Checkpoint) -> Iterator[str]:
    """How a run stood at one moment."""
    yield f"Checkpoint: {checkpoint.id} ({checkpoint.status})"
    yield f"Run: {checkpoint.run_id} of {checkpoint.expert.key}, with {checkpoint.model}"
    yield f"At: step {checkpoint.step_number}, {date(checkpoint.updated_at)}"
    yield f"Conversation: {len(checkpoint.messages)} messages, {tokens(checkpoint.usage)}"
    for call in checkpoint.pending_tool_calls:
        yield f"Unanswered: {call.tool_name} {call.id}"
    if checkpoint.error is not None:
        yield f"Error: {checkpoint.error.name}: {checkpoint.error.message}"


def conversation(checkpoint: Checkpoint) -> Iterator[str]:
    """All that was said in a run until then."""
    for message in checkpoint.messages:
        yield f"{SPEAKERS[message.type]}:"
        for text in _said(message):
            yield from (f"  {line}".rstrip() for line in text.splitlines())


def _said(message: Message) -> Iterator[str]:
    if isinstance(message, InstructionMessage):
        yield from (text for text in (message.stable, message.volatile) if text)
        return
    for part in message.contents:
        yield _part(part)


def _part(part: UserPart | ExpertPart | ToolResultPart) -> str:
    match part:
        case TextPart():
            return part.text
        case ThinkingPart():
            return f"(thinking) {part.thinking}"
        case ToolCallPart():
            return f"→ {part.tool_name} {json.dumps(part.args, ensure_ascii=False)}"
        case ToolResultPart():
            mark = "✗" if part.is_error else "✓"
            return f"{mark} {part.tool_name}: {' '.join(_part(inner) for inner in part.contents)}"
        case _:
            return f"({part.type} {part.mime_type})"


def footer(selection: Selection) -> str:
    """How much of it is shown."""
    beside = f" (+{selection.beside} context)" if selection.beside else ""
    return f"(showing {selection.shown} of {selection.matched.events} matched events{beside})"


def figures(counts: Counts) -> list[str]:
    """The counts in words, one a line."""
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
        f"{job.id}  {date(job.started_at)}  {job.status:<24}  {job.coordinator_expert_key}"
        f"  {job.total_steps} steps  {short(job.query, QUERY_CHARACTERS)}"
    )


def date(at_ms: int) -> str:
    """A moment in local time."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(" ", timespec="seconds")
