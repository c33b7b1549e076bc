"""How a task stands, and how that is said on the wire."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Literal

from mcp_types import INTERNAL_ERROR, CallToolResult

from perstack.core import events as ev
from perstack.core.activations import JobActivation, StopEvent
from perstack.core.elicitation import Question
from perstack.jobs import SHUTDOWN_REASON
from perstack.server.tools.elicitation import elicit_request_for

TaskPhase = Literal["open", "waiting", "finished", "superseded"]


@dataclass(frozen=True, slots=True)
class TaskPosition:
    """Where a task rests.

    Attributes:
        activation: The stretch of the job that has it now, or had it last.
        phase: Whether it is `open`, so that someone works on it or can take it up; `waiting` for
            an answer of the user; `finished`; or `superseded` by another request.
    """

    activation: JobActivation
    phase: TaskPhase


def locate_task(
    activations: list[JobActivation], number: int, *, has_forms: bool
) -> TaskPosition | None:
    """Where the task rests that began with stretch `number`; `None` if there is no such stretch.

    A question ends the task of a client that can show no form: it gets the question as the result.
    """
    pairs = zip_longest(activations[number:], activations[number + 1 :])
    for activation, next_activation in pairs:
        if _is_final(activation.stop_event, has_forms=has_forms):
            return TaskPosition(activation, "finished")
        if next_activation is None:
            is_waiting = isinstance(activation.stop_event, ev.StopRunByInteractiveTool)
            return TaskPosition(activation, "waiting" if is_waiting else "open")
        if next_activation.run_id != activation.run_id:
            return TaskPosition(activation, "superseded")
    return None


def _is_final(stop: StopEvent | None, *, has_forms: bool) -> bool:
    match stop:
        case None:
            return False
        case ev.StopRunByInteractiveTool():
            return not has_forms
        case ev.StopRunByCancellation():
            return stop.reason != SHUTDOWN_REASON  # who shut a server down did not mean the task
        case _:
            return True


_NUMBERED_ID = re.compile(r"(?P<job_id>.+)\.(?P<number>[0-9]{1,6})(?:~[0-9]{1,6})?", re.DOTALL)


def format_task_id(job_id: str, number: int, attempt: int = 0) -> str:
    """The id of a task.

    Args:
        job_id: Its job.
        number: The stretch of the job that it began with, counted from 0.
        attempt: How many tasks of that stretch are over already.
    """
    if attempt:
        return f"{job_id}.{number}~{attempt}"
    is_plain = number == 0 and _NUMBERED_ID.fullmatch(job_id) is None
    return job_id if is_plain else f"{job_id}.{number}"


def parse_task_id(task_id: str) -> tuple[str, int]:
    """The job id and the number that a task id is made of."""
    match = _NUMBERED_ID.fullmatch(task_id)
    return (task_id, 0) if match is None else (match["job_id"], int(match["number"]))


TaskStatus = Literal["working", "input_required", "completed", "cancelled", "failed"]
JsonObject = dict[str, Any]

MIN_POLL_INTERVAL_MS = 2_000
MAX_POLL_INTERVAL_MS = 10_000
POLLS_PER_AGE = 15
"""A task is looked at this often while it doubles its age, within the two bounds above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
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
    payload: JsonObject = field(default_factory=dict[str, Any])


def to_create_task_result(state: TaskState) -> JsonObject:
    """The result of a call that became a task."""
    return {"resultType": "task", **_task_fields(state)}


def to_get_task_result(state: TaskState) -> JsonObject:
    """The answer to `tasks/get`."""
    return {"resultType": "complete", **_task_fields(state), **state.payload}


def result_payload(result: CallToolResult) -> JsonObject:
    """What comes with status `completed`."""
    return {"result": result.model_dump(by_alias=True, mode="json", exclude_none=True)}


def error_payload(message: str) -> JsonObject:
    """What comes with status `failed`."""
    return {"error": {"code": INTERNAL_ERROR, "message": message}}


def input_requests_payload(questions: tuple[Question, ...]) -> JsonObject:
    """What comes with status `input_required`."""
    return {
        "inputRequests": {
            question.id: elicit_request_for(question).model_dump(
                by_alias=True, mode="json", exclude_none=True
            )
            for question in questions
        }
    }


def _task_fields(state: TaskState) -> JsonObject:
    age = state.updated_at - state.created_at
    fields: JsonObject = {
        "taskId": state.task_id,
        "status": state.status,
        "createdAt": _iso_timestamp(state.created_at),
        "lastUpdatedAt": _iso_timestamp(state.updated_at),
        "ttlMs": None,  # jobs are kept for good
        "pollIntervalMs": min(
            max(age // POLLS_PER_AGE, MIN_POLL_INTERVAL_MS), MAX_POLL_INTERVAL_MS
        ),
    }
    if state.message:
        fields["statusMessage"] = state.message
    return fields


def _iso_timestamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
