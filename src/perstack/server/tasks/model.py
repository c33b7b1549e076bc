"""Task states, their place in the history of a job, and their form on the wire."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, Literal, cast

from mcp_types import INTERNAL_ERROR, CallToolResult

from perstack.core import events as ev
from perstack.core.activations import JobActivation, StopEvent
from perstack.core.elicitation import Question
from perstack.core.wire import JsonObject
from perstack.jobs import SHUTDOWN_REASON
from perstack.runtime.ports import TaskRecord
from perstack.server.tools.elicitation import elicit_request_for

TaskPhase = Literal["open", "waiting", "finished", "superseded"]
"""A task is open while a process drives its job or can resume it; then it waits for an answer of
the user, is finished, or is superseded by another request."""


def locate_task(
    activations: list[JobActivation], number: int, *, has_forms: bool
) -> tuple[TaskPhase, JobActivation] | None:
    """The phase of a task that began with activation `number`; `None` if there is no such task.

    The activation that is returned with it is the newest one of the job that works on the task. A
    question ends the task of a client that cannot show forms: the question is the result.
    """
    pairs = zip_longest(activations[number:], activations[number + 1 :])
    for activation, next_activation in pairs:
        if _is_final(activation.stop_event, has_forms=has_forms):
            return "finished", activation
        if next_activation is None:
            is_waiting = isinstance(activation.stop_event, ev.StopRunByInteractiveTool)
            return "waiting" if is_waiting else "open", activation
        if next_activation.run_id != activation.run_id:
            return "superseded", activation
    return None


def _is_final(stop: StopEvent | None, *, has_forms: bool) -> bool:
    match stop:
        case None:
            return False
        case ev.StopRunByInteractiveTool():
            return not has_forms
        case ev.StopRunByCancellation():
            return stop.reason != SHUTDOWN_REASON
        case _:
            return True


_NUMBERED_ID = re.compile(r"(?P<job_id>.+)\.(?P<number>[0-9]{1,6})(?:~[0-9]{1,6})?", re.DOTALL)


def format_task_id(job_id: str, number: int) -> str:
    """The task id of a job with a number; that with number 0 is the id of the job, if possible."""
    is_plain = number == 0 and _NUMBERED_ID.fullmatch(job_id) is None
    return job_id if is_plain else f"{job_id}.{number}"


def parse_task_id(task_id: str) -> tuple[str, int]:
    """The job id and the number in a task id. Ids of older versions may end in `~` and digits."""
    match = _NUMBERED_ID.fullmatch(task_id)
    return (task_id, 0) if match is None else (match["job_id"], int(match["number"]))


TaskStatus = Literal["working", "input_required", "completed", "cancelled", "failed"]

MIN_POLL_INTERVAL_MS = 2_000
MAX_POLL_INTERVAL_MS = 10_000
POLLS_PER_AGE = 15
"""How often a client polls while the age of the task doubles, within the two bounds above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """The state of a task at one moment.

    Attributes:
        task_id: The task.
        status: As in the protocol.
        message: One line for people, without arguments and results of tools.
        created_at: Milliseconds since the epoch.
        updated_at: Milliseconds since the epoch.
        payload: The result, the error or the open questions, as the status requires.
    """

    task_id: str
    status: TaskStatus
    message: str = ""
    created_at: int
    updated_at: int
    payload: JsonObject = field(default_factory=dict[str, Any])

    @property
    def is_final(self) -> bool:
        """Whether the state never changes."""
        return self.status not in ("working", "input_required")


def new_state(task: TaskRecord) -> TaskState:
    """The state of a task before any event of its job."""
    return TaskState(
        task_id=task.task_id,
        status="working",
        created_at=task.created_at,
        updated_at=task.created_at,
    )


def state_from_record(task: TaskRecord) -> TaskState:
    """The final state of a task that has one."""
    fields = task.payload or {}
    return TaskState(
        task_id=task.task_id,
        status=cast("TaskStatus", task.status),
        message=fields["message"],
        created_at=task.created_at,
        updated_at=fields["updatedAt"],
        payload=fields["content"],
    )


def to_record_payload(state: TaskState) -> JsonObject:
    """What is stored of a final state beside its status."""
    return {"message": state.message, "updatedAt": state.updated_at, "content": state.payload}


def to_create_task_result(state: TaskState) -> JsonObject:
    """The result of a call that has become a task."""
    return {"resultType": "task", **_task_fields(state)}


def to_get_task_result(state: TaskState) -> JsonObject:
    """The result of `tasks/get`."""
    return {"resultType": "complete", **_task_fields(state), **state.payload}


def result_payload(result: CallToolResult) -> JsonObject:
    """The payload of status `completed`."""
    return {"result": result.model_dump(by_alias=True, mode="json", exclude_none=True)}


def error_payload(message: str) -> JsonObject:
    """The payload of status `failed`."""
    return {"error": {"code": INTERNAL_ERROR, "message": message}}


def input_requests_payload(questions: tuple[Question, ...]) -> JsonObject:
    """The payload of status `input_required`."""
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
        "ttlMs": None,  # tasks live as long as their jobs
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
