"""Tasks: calls whose result a client polls for.

A task is a row in the store that names an activation of a job. While it is open, its state follows
from the events of the job, so any process on the same store can answer for it, and a task whose
process has ended is resumed when a client asks for it. A final state is stored before a client sees
it, and never changes.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.abc import ObjectReceiveStream
from mcp_types import CallToolResult, ElicitResult
from pydantic import ValidationError

from perstack.core import events as ev
from perstack.core.activations import JobActivation, checkpoints_at_end, split_into_activations
from perstack.core.elicitation import Question
from perstack.core.history import RecordedEvent
from perstack.core.wire import JsonObject
from perstack.errors import (
    JobStateError,
    LeaseLostError,
    NotFoundError,
    PerstackError,
    StoreError,
)
from perstack.jobs import MAX_RECENT_EVENTS, JobEvent, JobHandle, JobView, build_view
from perstack.runtime.ports import TaskRecord
from perstack.runtime.start_plan import JobRequest
from perstack.server.caller import Caller
from perstack.server.summaries import status_line
from perstack.server.tasks.model import (
    TaskState,
    TaskStatus,
    error_payload,
    format_task_id,
    input_requests_payload,
    locate_task,
    new_state,
    parse_task_id,
    result_payload,
    state_from_record,
    to_create_task_result,
    to_get_task_result,
    to_record_payload,
)
from perstack.server.tools.call import CLIENT_CANCELLED
from perstack.server.tools.elicitation import answer_from
from perstack.server.tools.results import job_result

if TYPE_CHECKING:
    from perstack.engine import Engine

SETTLE_TIMEOUT_SECONDS = 5.0
SUPERSEDED_MESSAGE = "another request took the place of this one"


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """An open task with the events of its job.

    Attributes:
        task: The task.
        recorded_events: The events of the job.
        activation: The newest activation of the job that works on the task.
    """

    task: TaskRecord
    recorded_events: list[RecordedEvent]
    activation: JobActivation

    def to_state(
        self, status: TaskStatus, payload: JsonObject | None = None, message: str = ""
    ) -> TaskState:
        """The state at the end of the activation, by default with a message on its last event."""
        end = self.activation.end_index
        recent = [event for event, _ in self.recorded_events[max(0, end - MAX_RECENT_EVENTS) : end]]
        return TaskState(
            task_id=self.task.task_id,
            status=status,
            message=message or status_line(recent),
            created_at=self.task.created_at,
            updated_at=recent[-1].stamp.timestamp,
            payload=payload or {},
        )

    def view(self) -> JobView:
        """The job at the end of the activation."""
        return build_view(checkpoints_at_end(self.recorded_events, self.activation), query="")


class TaskService:
    """Answers the requests for the tasks of one engine.

    Args:
        engine: Runs the jobs.
        has_job_tools: Whether callers have the tools that manage jobs.
    """

    def __init__(self, engine: "Engine", *, has_job_tools: bool = True) -> None:
        self._engine = engine
        self._store = engine.task_store
        self._has_job_tools = has_job_tools
        # By task id, the jobs of this process: why one could not start is in no event.
        self._job_handles: dict[str, JobHandle] = {}

    async def as_task(self, result: CallToolResult) -> CallToolResult | JsonObject:
        """The result of a call, or a new task if the job of the call is still running.

        Raises:
            PerstackError: The job could not be started, or the store failed.
        """
        content: object = result.structured_content
        fields = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
        if fields.get("status") != "running":
            return result
        return to_create_task_result(await self._create(fields["job_id"]))

    async def get(self, task_id: str, caller: Caller) -> JsonObject:
        """The state of a task. A task whose process has ended is resumed.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read or written.
        """
        task = await self._find(task_id)
        return to_get_task_result(await self._state(task, caller, has_forms=caller.has_forms))

    async def update(self, task_id: str, responses: Mapping[str, Any], caller: Caller) -> None:
        """Answer questions of a task. A response to no open question is ignored.

        Raises:
            NotFoundError: There is no such task.
            InvalidArgumentsError: An answer does not fit its question, which stays open.
            JobStateError: The job cannot be continued now; the question stays open.
            StoreError: The store cannot be read or written.
        """
        task = await self._find(task_id)
        state = await self._state(task, caller, has_forms=True)
        if state.status != "input_required":
            return
        view = await self._engine.job(task.job_id)
        if not caller.may_run(view.job.coordinator_expert_key):
            raise NotFoundError("A task that the caller may not continue.")
        forms = [
            (question, form)
            for question in view.questions
            if (form := _parse_form(responses.get(question.id))) is not None
        ]
        for position, (question, form) in enumerate(forms, start=1):
            is_last = position == len(view.questions)
            await self._answer_question(task.job_id, question, form, is_last=is_last)
        if any(form.action == "cancel" for _, form in forms):
            # The user will not answer, so the question is the result for the client's model.
            await self._settle(self._complete(state, await self._engine.job(task.job_id)))

    async def cancel(self, task_id: str, caller: Caller) -> None:
        """Cancel a task, unless it has a final status.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read or written.
        """
        task = await self._find(task_id)
        state = await self._state(task, None, has_forms=caller.has_forms)
        if state.is_final:
            return
        with suppress(JobStateError):  # another process drives the job, and does not stop it
            await self._engine.cancel(task.job_id, CLIENT_CANCELLED)
            state = await self._state(task, None, has_forms=caller.has_forms)
            if not state.is_final:  # no process drives the job
                await self._engine.mark_cancelled(task.job_id, CLIENT_CANCELLED)

    async def _create(self, job_id: str) -> TaskState:
        """Create the task of the newest activation of a running job, once that is stored."""
        activations = await self._wait_for_activation(job_id)
        number = len(activations) - 1
        task = await self._store_new_task(job_id, number, activations[-1].started_at)
        self._job_handles = {
            each: job
            for each, job in self._job_handles.items()
            if self._engine.running(job.job_id) is job
        }
        job = self._engine.running(job_id)
        if job is not None:
            self._job_handles[task.task_id] = job
        return new_state(task)

    async def _store_new_task(self, job_id: str, activation: int, created_at: int) -> TaskRecord:
        suffix = activation
        while True:
            task_id = format_task_id(job_id, suffix)
            task = TaskRecord(
                task_id=task_id, job_id=job_id, activation=activation, created_at=created_at
            )
            # An open task of the same activation is shared: both calls wait for the same result.
            if await self._store.create_task(task) or await self._store.task(task_id) == task:
                return task
            suffix += 1

    async def _find(self, task_id: str) -> TaskRecord:
        task = await self._store.task(task_id)
        if task is not None:
            return task
        # Stores of schema version 3 and older have no tasks; the ids say what the rows would.
        job_id, number = parse_task_id(task_id)
        activations = split_into_activations(await self._engine.history(job_id))
        if number >= len(activations):
            raise NotFoundError(f"There is no task {task_id}.")
        created_at = activations[number].started_at
        task = TaskRecord(task_id=task_id, job_id=job_id, activation=number, created_at=created_at)
        if task_id == format_task_id(job_id, number):
            await self._store.create_task(task)
        return task

    async def _wait_for_activation(self, job_id: str) -> list[JobActivation]:
        job = self._engine.running(job_id)
        if job is not None:
            with job.watch() as events:
                while True:
                    activations = await self._stored_activations(job_id)
                    if activations and activations[-1].stop_event is None:
                        return activations
                    if not await _receive_stored_event(events):
                        break
            await job.wait(0)
        return split_into_activations(await self._engine.history(job_id))

    async def _stored_activations(self, job_id: str) -> list[JobActivation]:
        try:
            return split_into_activations(await self._engine.history(job_id))
        except NotFoundError:
            return []

    async def _state(
        self, task: TaskRecord, resume_for: Caller | None, *, has_forms: bool
    ) -> TaskState:
        """The state of a task, which is resumed if it is orphaned and `resume_for` may run it."""
        if task.status is not None:
            return state_from_record(task)
        state: TaskState | None = None
        if (job := self._job_handles.get(task.task_id)) is not None:
            state = await self._running_state(task, job, has_forms=has_forms)
        if state is None:
            state = await self._recorded_state(task, resume_for, has_forms=has_forms)
        return await self._settle(state) if state.is_final else state

    async def _settle(self, state: TaskState) -> TaskState:
        """Store a final state; returns the one that another process has stored before, if any."""
        task = await self._store.settle_task(state.task_id, state.status, to_record_payload(state))
        return state if task is None else state_from_record(task)

    async def _recorded_state(
        self, task: TaskRecord, resume_for: Caller | None, *, has_forms: bool
    ) -> TaskState:
        recorded_events = await self._engine.history(task.job_id)
        activations = split_into_activations(recorded_events)
        position = locate_task(activations, task.activation, has_forms=has_forms)
        if position is None:
            raise NotFoundError(f"There is no task {task.task_id}.")
        phase, activation = position
        history = TaskHistory(task, recorded_events, activation)
        match phase:
            case "finished":
                return self._finished_state(history)
            case "superseded":
                return history.to_state("cancelled", message=SUPERSEDED_MESSAGE)
            case "waiting":
                payload = input_requests_payload(history.view().questions)
                return history.to_state("input_required", payload)
            case "open":
                return await self._open_state(history, resume_for, has_forms=has_forms)

    def _finished_state(self, history: TaskHistory) -> TaskState:
        match history.activation.stop_event:
            case ev.StopRunByCancellation(reason=reason):
                return history.to_state("cancelled", message=reason)
            case ev.StopRunByError(error=error) if error.name == ev.INTERNAL_ERROR:
                return history.to_state("failed", error_payload(error.message))
            case _:
                return self._complete(history.to_state("completed"), history.view())

    async def _open_state(
        self, history: TaskHistory, resume_for: Caller | None, *, has_forms: bool
    ) -> TaskState:
        task = history.task
        job = self._engine.running(task.job_id)
        if job is None and resume_for is not None and await self._can_resume(history, resume_for):
            try:
                job = await self._engine.start(JobRequest(job_id=task.job_id))
            except JobStateError as error:
                # Another process was faster, or a limit does not allow another job now.
                return history.to_state("working", message=error.message)
            except StoreError:
                raise
            except PerstackError as error:
                return history.to_state("failed", error_payload(str(error)))
        if job is not None:
            self._job_handles[task.task_id] = job
            state = await self._running_state(task, job, has_forms=has_forms)
            if state is not None:
                return state
        return history.to_state("working")

    async def _can_resume(self, history: TaskHistory, caller: Caller) -> bool:
        job = await self._engine.summary(history.task.job_id)
        # A job that has stopped in another way has done so since its history was read.
        is_orphaned = job.status == "interrupted" or (
            history.activation.stop_event is not None and job.status == "stoppedByCancellation"
        )
        return is_orphaned and caller.may_run(job.coordinator_expert_key)

    async def _running_state(
        self, task: TaskRecord, job: JobHandle, *, has_forms: bool
    ) -> TaskState | None:
        """The state while this process drives the job; `None` once the events have it."""
        state = new_state(task)
        try:
            view = await job.wait(0)
        except LeaseLostError:
            view = None
        except PerstackError as error:
            return replace(state, status="failed", payload=error_payload(str(error)))
        if view is None or self._engine.running(job.job_id) is not job:
            self._job_handles.pop(task.task_id, None)
            return None
        state = replace(state, updated_at=view.job.updated_at)
        if not view.questions:
            return replace(state, message=status_line(job.recent))
        if not has_forms:
            return self._complete(state, view)
        payload = input_requests_payload(view.questions)
        return replace(state, status="input_required", payload=payload)

    async def _answer_question(
        self, job_id: str, question: Question, form: ElicitResult, *, is_last: bool
    ) -> None:
        answer = answer_from(question, form)
        if answer is None:
            return
        running_job = self._engine.running(job_id)
        if running_job is not None and question.origin == "expert":
            # Started by the answer before; with a question left open the job stops again at once.
            await running_job.wait(SETTLE_TIMEOUT_SECONDS)
        try:
            job = await self._engine.start(JobRequest(job_id=job_id, answer=answer))
        except JobStateError:
            view = await self._engine.job(job_id)
            if question.id in {each.id for each in view.questions}:
                raise
            return  # the question has been answered meanwhile
        if job is running_job:
            return
        # Until the answer is stored, the question would still seem to be open.
        with job.watch() as events:
            await _receive_stored_event(events)
        if not is_last:
            await job.wait(SETTLE_TIMEOUT_SECONDS)

    def _complete(self, state: TaskState, view: JobView) -> TaskState:
        payload = result_payload(job_result(view, has_job_tools=self._has_job_tools))
        return replace(state, status="completed", payload=payload)


async def _receive_stored_event(events: ObjectReceiveStream[JobEvent]) -> bool:
    """Wait for the next stored event; false if the job stops without one."""
    while True:
        try:
            _, checkpoint = await events.receive()
        except anyio.EndOfStream:
            return False
        if checkpoint is not None:
            return True


def _parse_form(response: object) -> ElicitResult | None:
    try:
        return None if response is None else ElicitResult.model_validate(response)
    except ValidationError:
        return None
