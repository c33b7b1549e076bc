"""Calls that became tasks: a client that takes a task for a result polls for what comes of it.

Nothing of a task is stored but the job itself. Which stretch of the job the call set in motion is
in the task's id, and what came of it follows from the events. So any process on the same store can
answer for a task, and one whose process has ended goes on as soon as somebody asks for it.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio.abc import ObjectReceiveStream
from mcp_types import CallToolResult, ElicitResult
from pydantic import ValidationError

from perstack.core import events as ev
from perstack.core.activations import JobActivation, checkpoints_at_end, split_into_activations
from perstack.core.elicitation import Question, form_errors
from perstack.core.events import RunEvent
from perstack.core.history import RecordedEvent
from perstack.errors import (
    JobStateError,
    LeaseLostError,
    NotFoundError,
    PerstackError,
    StoreError,
)
from perstack.jobs import MAX_RECENT_EVENTS, JobEvent, JobHandle, JobView
from perstack.jobs import build_view as view_of
from perstack.runtime.start_plan import JobRequest
from perstack.server.caller import Caller
from perstack.server.summaries import status_line
from perstack.server.tasks.model import (
    JsonObject,
    TaskState,
    TaskStatus,
    error_payload,
    format_task_id,
    input_requests_payload,
    locate_task,
    parse_task_id,
    result_payload,
    to_create_task_result,
    to_get_task_result,
)
from perstack.server.tools.arguments import InvalidArgumentsError
from perstack.server.tools.call import CLIENT_CANCELLED
from perstack.server.tools.elicitation import parse_elicit_result
from perstack.server.tools.results import job_result

if TYPE_CHECKING:
    from perstack.engine import Engine


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """A task as the events of its job have it.

    Attributes:
        task_id: Its id.
        recorded_events: What has happened to its job.
        created_at: Milliseconds since the epoch.
        activation: The stretch of the job that has the task now, or had it last.
    """

    task_id: str
    recorded_events: Sequence[RecordedEvent]
    created_at: int
    activation: JobActivation

    @property
    def status_message(self) -> str:
        """What happened last that is worth a line."""
        end = self.activation.end_index
        return status_line(
            [event for event, _ in self.recorded_events[max(0, end - MAX_RECENT_EVENTS) : end]]
        )

    @property
    def last_event(self) -> RunEvent:
        """The last event of the task so far."""
        return self.recorded_events[self.activation.end_index - 1][0]

    def to_input_required(self) -> TaskState:
        """How it stands while it waits for answers of the user."""
        return self.to_state("input_required", input_requests_payload(self.view().questions))

    def to_state(
        self, status: TaskStatus, payload: JsonObject | None = None, message: str = ""
    ) -> TaskState:
        """How it stands."""
        return TaskState(
            task_id=self.task_id,
            status=status,
            message=message or self.status_message,
            created_at=self.created_at,
            updated_at=self.last_event.stamp.timestamp,
            payload=payload or {},
        )

    def view(self) -> JobView:
        """Its job as it was at the end of the stretch."""
        return view_of(checkpoints_at_end(self.recorded_events, self.activation), query="")


MAX_FINAL_STATES = 1_000
SETTLE_TIMEOUT_SECONDS = 5.0
UNFINISHED_STATUSES = ("working", "input_required")
SUPERSEDED_MESSAGE = "another request took the place of this one"


@dataclass(frozen=True, slots=True)
class _RunningTask:
    """A task whose job this process drives."""

    job: JobHandle
    created_at: int


class TaskService:
    """Answers for the tasks of one engine's jobs.

    Args:
        engine: Where the jobs are.
        has_job_tools: Whether callers have the tools that look after jobs.
    """

    def __init__(self, engine: "Engine", *, has_job_tools: bool = True) -> None:
        self._engine = engine
        self._has_job_tools = has_job_tools
        self._running_tasks: dict[str, _RunningTask] = {}
        # What was said to be final although the events do not say so: a task never works again.
        self._final_states: dict[str, TaskState] = {}

    async def as_task(self, result: CallToolResult) -> CallToolResult | JsonObject:
        """The answer of a call, or a task if it says that its job goes on.

        Raises:
            PerstackError: The job could not be begun, or the store cannot be read.
        """
        content: object = result.structured_content
        if not isinstance(content, dict):
            return result
        structured_content = cast("dict[str, Any]", content)
        return (
            await self._create_task(structured_content["job_id"])
            if structured_content.get("status") == "running"
            else result
        )

    async def get(self, task_id: str, caller: Caller) -> JsonObject:
        """How a task stands. One that nobody works on any more is taken up again.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        return to_get_task_result(
            await self._task_state(task_id, caller, has_forms=caller.has_forms)
        )

    async def update(self, task_id: str, responses: Mapping[str, Any], caller: Caller) -> None:
        """Answer questions of a task. What answers no open question is ignored.

        Raises:
            NotFoundError: There is no such task.
            BadArguments: An answer does not fit its question, which stays open.
            JobStateError: The job cannot go on just now; the question stays open.
            StoreError: The store cannot be read or written.
        """
        state = await self._task_state(task_id, caller, has_forms=True)
        if state.status != "input_required":
            return
        job_id, _ = parse_task_id(task_id)
        view = await self._engine.job(job_id)
        if not caller.may_run(view.job.coordinator_expert_key):
            raise NotFoundError("A task that the caller may not take on.")
        questions = view.questions
        forms = [
            (question, form)
            for question in questions
            if (form := _parse_elicit_result(responses.get(question.id))) is not None
        ]
        for position, (question, form) in enumerate(forms, start=1):
            await self._answer_question(job_id, question, form, is_last=position == len(questions))
        if any(form.action == "cancel" for _, form in forms):
            # Nobody will answer here, so the caller's model is told what is asked.
            self._complete_with(state, await self._engine.job(job_id))

    async def cancel(self, task_id: str, caller: Caller) -> None:
        """Stop a task. One that has finished stays as it is.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        state = await self._task_state(task_id, None, has_forms=caller.has_forms)
        if state.status not in UNFINISHED_STATUSES:
            return
        job_id, _ = parse_task_id(task_id)
        with suppress(JobStateError):  # somebody works on it, and does not stop
            await self._engine.cancel(job_id, CLIENT_CANCELLED)
            state = await self._task_state(task_id, None, has_forms=caller.has_forms)
            if state.status in UNFINISHED_STATUSES:  # because nobody did
                await self._engine.mark_cancelled(job_id, CLIENT_CANCELLED)

    async def _create_task(self, job_id: str) -> JsonObject:
        """The task for the newest stretch of a running job, once its first event is durable."""
        job_activations = await self._wait_until_started(job_id)
        task_id = self._next_task_id(job_id, len(job_activations) - 1)
        created_at = job_activations[-1].started_at
        self._forget_stopped()
        running_job = self._engine.running(job_id)
        if running_job is not None:
            self._running_tasks[task_id] = _RunningTask(running_job, created_at)
        return to_create_task_result(
            TaskState(
                task_id=task_id, status="working", created_at=created_at, updated_at=created_at
            )
        )

    def _next_task_id(self, job_id: str, number: int) -> str:
        ids = (format_task_id(job_id, number, again) for again in count())
        return next(task for task in ids if task not in self._final_states)

    async def _wait_until_started(self, job_id: str) -> list[JobActivation]:
        running_job = self._engine.running(job_id)
        if running_job is None:
            return split_into_activations(await self._engine.history(job_id))
        with running_job.watch() as events:
            job_activations = await self._stored_activations(job_id)
            while not job_activations or job_activations[-1].stop_event is not None:
                if not await _wait_for_stored_event(events):
                    await running_job.wait(0)
                    return split_into_activations(await self._engine.history(job_id))
                job_activations = await self._stored_activations(job_id)
        return job_activations

    async def _stored_activations(self, job_id: str) -> list[JobActivation]:
        try:
            return split_into_activations(await self._engine.history(job_id))
        except NotFoundError:
            return []

    async def _task_state(
        self, task_id: str, resume_for: Caller | None, *, has_forms: bool
    ) -> TaskState:
        """How a task stands; one that is wanted and that nobody works on is taken up again."""
        if (final_state := self._final_states.get(task_id)) is not None:
            return final_state
        if (running_task := self._running_tasks.get(task_id)) is not None:
            state = await self._running_task_state(task_id, running_task, has_forms=has_forms)
            if state is not None:
                return state
        job_id, number = parse_task_id(task_id)
        recorded_events = await self._engine.history(job_id)
        job_activations = split_into_activations(recorded_events)
        position = locate_task(job_activations, number, has_forms=has_forms)
        if position is None:
            raise NotFoundError(f"There is no task {task_id}.")
        history = TaskHistory(
            task_id, recorded_events, job_activations[number].started_at, position.activation
        )
        match position.phase:
            case "finished":
                return self._finished_state(history)
            case "superseded":
                return history.to_state("cancelled", message=SUPERSEDED_MESSAGE)
            case "waiting":
                return history.to_input_required()
            case "open":
                return await self._open_task_state(history, resume_for, has_forms=has_forms)

    def _finished_state(self, history: TaskHistory) -> TaskState:
        match history.activation.stop_event:
            case ev.StopRunByCancellation(reason=reason):
                return history.to_state("cancelled", message=reason)
            case ev.StopRunByError(error=error) if error.name == ev.INTERNAL_ERROR:
                return history.to_state("failed", error_payload(error.message))
            case _:
                return history.to_state(
                    "completed", result_payload(self._job_result(history.view()))
                )

    async def _open_task_state(
        self, history: TaskHistory, resume_for: Caller | None, *, has_forms: bool
    ) -> TaskState:
        job_id, _ = parse_task_id(history.task_id)
        job = self._engine.running(job_id)
        stored_job = (await self._engine.job(job_id)).job
        can_resume = resume_for is not None and resume_for.may_run(
            stored_job.coordinator_expert_key
        )
        # What has stopped in any other way has done so since the trail was read.
        is_orphaned = stored_job.status == "interrupted" or (
            history.activation.stop_event is not None
            and stored_job.status == "stoppedByCancellation"
        )
        if job is None and is_orphaned and can_resume:
            try:
                job = await self._engine.start(JobRequest(job_id=job_id))
            except JobStateError as error:
                # Another process was quicker, or too much is going on just now.
                return history.to_state("working", message=error.message)
            except StoreError:
                raise
            except PerstackError as error:
                return self._remember_final(history.to_state("failed", error_payload(str(error))))
        if job is not None:
            running_task = self._running_tasks[history.task_id] = _RunningTask(
                job, history.created_at
            )
            self._forget_stopped()
            state = await self._running_task_state(
                history.task_id, running_task, has_forms=has_forms
            )
            if state is not None:
                return state
        return history.to_state("working", message=history.status_message)

    async def _running_task_state(
        self, task_id: str, running_task: _RunningTask, *, has_forms: bool
    ) -> TaskState | None:
        """How a task stands while this process drives its job; `None` once the events say it."""
        job = running_task.job
        state = TaskState(
            task_id=task_id,
            status="working",
            created_at=running_task.created_at,
            updated_at=running_task.created_at,
        )
        try:
            view = await job.wait(0)
        except LeaseLostError:
            view = None
        except PerstackError as error:
            return self._remember_final(
                replace(state, status="failed", payload=error_payload(str(error)))
            )
        if view is None or self._engine.running(job.job_id) is not job:
            self._running_tasks.pop(task_id, None)
            return None
        state = replace(state, updated_at=view.job.updated_at)
        if view.questions and has_forms:
            payload = input_requests_payload(view.questions)
            return replace(state, status="input_required", payload=payload)
        if view.questions:
            return self._complete_with(state, view)
        return replace(state, message=status_line(job.recent))

    async def _answer_question(
        self, job_id: str, question: Question, form: ElicitResult, *, is_last: bool
    ) -> None:
        answer = parse_elicit_result(question, form)
        if answer is None:
            _validate_answer(question, form)
            return
        running_job = self._engine.running(job_id)
        if running_job is not None and question.origin == "expert":
            await running_job.wait(
                SETTLE_TIMEOUT_SECONDS
            )  # with an earlier answer it stops again at once
        try:
            job = await self._engine.start(JobRequest(job_id=job_id, answer=answer))
        except JobStateError:
            view = await self._engine.job(job_id)
            if question.id in {each.id for each in view.questions}:
                raise
            return  # it came too late
        if job is running_job:
            return
        # Until the answer is stored, the question would still seem to be open.
        with job.watch() as events:
            await _wait_for_stored_event(events)
        if not is_last:
            await job.wait(SETTLE_TIMEOUT_SECONDS)

    def _complete_with(self, state: TaskState, view: JobView) -> TaskState:
        payload = result_payload(self._job_result(view))
        return self._remember_final(replace(state, status="completed", payload=payload))

    def _job_result(self, view: JobView) -> CallToolResult:
        return job_result(view, has_job_tools=self._has_job_tools)

    def _remember_final(self, state: TaskState) -> TaskState:
        self._final_states[state.task_id] = state
        while len(self._final_states) > MAX_FINAL_STATES:
            del self._final_states[next(iter(self._final_states))]
        return state

    def _forget_stopped(self) -> None:
        for task_id, running_task in tuple(self._running_tasks.items()):
            if self._engine.running(running_task.job.job_id) is not running_task.job:
                del self._running_tasks[task_id]


async def _wait_for_stored_event(events: ObjectReceiveStream[JobEvent]) -> bool:
    """Wait for the next stored event; false if the job stops without one."""
    while True:
        try:
            _, checkpoint = await events.receive()
        except anyio.EndOfStream:
            return False
        if checkpoint is not None:
            return True


def _validate_answer(question: Question, form: ElicitResult) -> None:
    if form.action == "accept":
        problems = "; ".join(form_errors(form.content or {}, question.schema))
        raise InvalidArgumentsError(f"The answer to {question.id!r} does not fit: {problems}.")


def _parse_elicit_result(response: object) -> ElicitResult | None:
    try:
        return None if response is None else ElicitResult.model_validate(response)
    except ValidationError:
        return None
