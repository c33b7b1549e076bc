"""How a task stands, and how that is said on the wire."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from mcp_types import INTERNAL_ERROR, CallToolResult

from perstack.core.questions import Question
from perstack.server.calls.forms import form_of

TaskStatus = Literal["working", "input_required", "completed", "cancelled", "failed"]
Wire = dict[str, Any]

SHORTEST_POLL_MS = 2_000
LONGEST_POLL_MS = 10_000
POLLS_PER_AGE = 15
"""A task is looked at this often while it doubles its age, within the two bounds above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a task stands at one moment.

    Attributes:
        task_id: Which task.
        status: In the words of the protocol.
        message: One line for people, free of arguments and results.
        created_at: Milliseconds since the epoch.
        updated_at: Milliseconds since the epoch.
        payload: What comes with the status: the result, the error or the open questions.
    """

    task_id: str
    status: TaskStatus
    message: str = ""
    created_at: int
    updated_at: int
    payload: Wire = field(default_factory=dict[str, Any])


def created(standing: Standing) -> Wire:
    """The result of a call that became a task."""
    return {"resultType": "task", **_fields(standing)}


def detailed(standing: Standing) -> Wire:
    """The answer to `tasks/get`."""
    return {"resultType": "complete", **_fields(standing), **standing.payload}


def result_payload(result: CallToolResult) -> Wire:
    """What comes with status `completed`."""
    return {"result": result.model_dump(by_alias=True, mode="json", exclude_none=True)}


def error_payload(message: str) -> Wire:
    """What comes with status `failed`."""
    return {"error": {"code": INTERNAL_ERROR, "message": message}}


def questions_payload(questions: tuple[Question, ...]) -> Wire:
    """What comes with status `input_required`."""
    return {
        "inputRequests": {
            question.id: form_of(question).model_dump(by_alias=True, mode="json", exclude_none=True)
            for question in questions
        }
    }


def _fields(standing: Standing) -> Wire:
    age = standing.updated_at - standing.created_at
    fields: Wire = {
        "taskId": standing.task_id,
        "status": standing.status,
        "createdAt": _time(standing.created_at),
        "lastUpdatedAt": _time(standing.updated_at),
        "ttlMs": None,  # jobs are kept for good
        "pollIntervalMs": min(max(age // POLLS_PER_AGE, SHORTEST_POLL_MS), LONGEST_POLL_MS),
    }
    if standing.message:
        fields["statusMessage"] = standing.message
    return fields


def _time(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
