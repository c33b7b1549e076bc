"""Summaries of events and jobs for clients.

Progress messages contain names only: arguments and results of tools may hold secrets, and clients
may log progress.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from perstack.core import events as ev
from perstack.core import transient_events
from perstack.core.checkpoint import JobStatus
from perstack.core.transient_events import PerstackEvent
from perstack.core.verification import (
    VerificationResult,
    format_verification_results,
    truncate_middle,
)
from perstack.definition.references import BASE_SKILL
from perstack.jobs import JobView
from perstack.text import replace_surrogates

PUBLIC_STATUS: dict[JobStatus, str] = {
    "completed": "completed",
    "running": "running",
    "stoppedByInteractiveTool": "needs_input",
    "stoppedByMaxSteps": "max_steps",
    "stoppedByBudget": "budget_exceeded",
    "stoppedByError": "error",
    "stoppedByCancellation": "cancelled",
    "interrupted": "interrupted",
}

MAX_PROGRESS_NAMES = 3
MAX_PROGRESS_NAME_CHARACTERS = 60

_EVENT_LABELS: dict[str, str] = {
    "startRun": "started",
    "resumeFromStop": "resumed",
    "startGeneration": "thinking",
    "compactHistory": "summarized the conversation",
    "contextWindowNearlyFull": "the context is nearly full",
    "completeRun": "completed",
    "stopRunByInteractiveTool": "waiting for an answer",
    "stopRunByDelegate": "waiting for delegates",
    "stopRunByExceededMaxSteps": "out of steps",
    "stopRunByExceededBudget": "out of budget",
    "stopRunByCancellation": "cancelled",
}


def progress_message(event: PerstackEvent) -> str | None:
    """The progress message of an event, such as `reviewer · step 3 · readTextFile`, if any."""
    description = _describe_event(event)
    if description is None:
        return None
    return f"{event.stamp.expert_key} · step {event.stamp.step_number} · {description}"


def status_line(events: Sequence[PerstackEvent]) -> str:
    """The progress message of the newest event that has one, or an empty string."""
    lines = (progress_message(event) for event in reversed(events))
    return next((line for line in lines if line is not None), "")


def _describe_event(event: PerstackEvent) -> str | None:
    match event:
        case ev.CallTools():
            return _join_names([call.tool_name for call in event.new_message.tool_calls])
        case ev.RecordToolResult():
            outcome = "failed" if event.tool_result.is_error else "done"
            return f"{_shorten_name(event.tool_result.tool_name)} {outcome}"
        case ev.RecordVerification():
            outcome = "passed" if event.verification.passed else "failed"
            return f"{_shorten_name(event.verification.name)} {outcome}"
        case ev.CallDelegate():
            return f"delegating to {_join_names([each.expert.key for each in event.delegate_to])}"
        case ev.Retry():
            return _describe_retry(event)
        case ev.StopRunByError():
            return f"stopped by {event.error.name}"
        case transient_events.SkillStarting():
            return f"starting {_shorten_name(event.skill_name)}"
        case transient_events.SkillAsked():
            return f"{_shorten_name(event.skill_name)} asks the user"
        case transient_events.SkillConnected() if event.skill_name != BASE_SKILL:
            return f"{_shorten_name(event.skill_name)} is ready"
        case _:
            return _EVENT_LABELS.get(event.type)


def _describe_retry(event: ev.Retry) -> str:
    if event.fallback is not None:
        return f"trying again with {_shorten_name(event.fallback.model)}"
    return f"trying again after {event.error.name}" if event.error else "trying again"


def _join_names(names: list[str]) -> str:
    shown = ", ".join(_shorten_name(name) for name in names[:MAX_PROGRESS_NAMES])
    more = len(names) - MAX_PROGRESS_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _shorten_name(name: str) -> str:
    plain = replace_surrogates(name)
    if len(plain) <= MAX_PROGRESS_NAME_CHARACTERS:
        return plain
    return f"{plain[: MAX_PROGRESS_NAME_CHARACTERS - 1]}…"


MIME_JSON = "application/json"
MIME_JSON_LINES = "application/jsonl"
MIME_MARKDOWN = "text/markdown"
MIME_TEXT = "text/plain"

MAX_PAGE_BYTES = 256 * 1024
"""Maximum size of a page, unless a single entry is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The content of a resource.

    Attributes:
        text: The content, or one page of it.
        mime_type: The MIME type of the text.
        is_immutable: Whether the content can never change.
        next_uri: The URI of the next page, if there is one.
    """

    text: str
    mime_type: str = MIME_JSON
    is_immutable: bool = False
    next_uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEntry:
    """A job in a listing.

    Attributes:
        job_id: The id of the job.
        expert: The key of its expert.
        status: The public status.
        query: The beginning of the query.
        updated_at: When it last changed, in ISO 8601.
    """

    job_id: str
    expert: str
    status: str
    query: str
    updated_at: str


def to_pretty_json(value: Mapping[str, Any]) -> str:
    return replace_surrogates(json.dumps(value, ensure_ascii=False, indent=2))


def to_json_line(value: Mapping[str, Any]) -> str:
    """One line of JSON Lines."""
    return replace_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) + "\n"


def iso_timestamp(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def utf8_size(text: str) -> int:
    return len(text.encode())


MAX_VERIFICATION_OUTPUT = 800
MAX_VERIFICATION_PROBLEM = 400
MAX_TOTAL_VERIFICATION_OUTPUT = 4_000
"""Maximum for all verifications of a job together."""


def verification_summary(view: JobView) -> list[dict[str, Any]]:
    """The verifications of the last attempt to complete; empty if the expert has none."""
    results = view.verifications
    max_output = min(MAX_VERIFICATION_OUTPUT, MAX_TOTAL_VERIFICATION_OUTPUT // max(len(results), 1))
    return [_verification_entry(result, max_output) for result in results]


def verification_line(view: JobView) -> str:
    """The verifications on one line; empty if there are none."""
    summary = truncate_middle(
        format_verification_results(view.verifications), MAX_VERIFICATION_OUTPUT
    ).replace("\n", " ")
    return replace_surrogates(f"verifications: {summary}") if summary else ""


def _verification_entry(result: VerificationResult, max_output: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": replace_surrogates(result.name),
        "priority": result.priority,
        "passed": result.passed,
    }
    if result.exit_code is not None:
        entry["exit_code"] = result.exit_code
    if result.problem:
        entry["problem"] = replace_surrogates(
            truncate_middle(result.problem, MAX_VERIFICATION_PROBLEM)
        )
    if result.output.strip():
        entry["output"] = replace_surrogates(truncate_middle(result.output.strip(), max_output))
    return entry


def public_status(view: JobView) -> str:
    """The status of a job as clients see it."""
    # A job is running while a skill waits for the user in the middle of a call.
    return "needs_input" if view.questions else PUBLIC_STATUS[view.job.status]


def text_mime_type(view: JobView) -> str:
    if view.job.status != "completed":
        return MIME_TEXT
    return MIME_JSON if view.checkpoint.is_typed else MIME_MARKDOWN
