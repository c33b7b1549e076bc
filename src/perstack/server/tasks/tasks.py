"""Calls that became tasks: a client that takes a task for a result polls for what comes of it.

Nothing of a task is stored but the job itself. Which stretch of the job the call set in motion is
in the task's id, and what came of it follows from the events. So any process on the same store can
answer for a task, and one whose process has ended goes on as soon as somebody asks for it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, cast

import anyio
from mcp_types import CallToolResult, ElicitResult
from pydantic import ValidationError

from perstack.core import events as ev
from perstack.core.answers import misfits
from perstack.core.questions import Question
from perstack.core.stretches import Stretch, stretches
from perstack.errors import (
    JobStateError,
    LeaseLostError,
    NotFoundError,
    PerstackError,
    StoreError,
)
from perstack.jobs import JobView
from perstack.runtime.continuation import JobRequest
from perstack.server.caller import Caller
from perstack.server.calls.arguments import BadArguments
from perstack.server.calls.desk import CLIENT_CANCELLED
from perstack.server.calls.forms import answer_of
from perstack.server.calls.progress import status_line
from perstack.server.calls.results import job_result
from perstack.server.port import Events, ServedEngine, ServedJob
from perstack.server.tasks.course import rest_of
from perstack.server.tasks.ids import parts_of, task_id
from perstack.server.tasks.past import Past
from perstack.server.tasks.standing import (
    Standing,
    Wire,
    created,
    detailed,
    error_payload,
    questions_payload,
    result_payload,
)

MAX_REMEMBERED = 1_000
SETTLING_SECONDS = 5.0
UNFINISHED = ("working", "input_required")
SUPERSEDED = "another request took the place of this one"


@dataclass(frozen=True, slots=True)
class _Live:
    """A task whose job this process drives."""

    job: ServedJob
    created_at: int


class Tasks:
    """Answers for the tasks of one engine's jobs.

    Args:
        engine: Where the jobs are.
        has_job_tools: Whether callers have the tools that look after jobs.
    """

    def __init__(self, engine: ServedEngine, *, has_job_tools: bool = True) -> None:
        self._engine = engine
        self._has_job_tools = has_job_tools
        self._live: dict[str, _Live] = {}
        # What was said to be final although the events do not say so: a task never works again.
        self._settled: dict[str, Standing] = {}

    async def instead(self, answer: CallToolResult) -> CallToolResult | Wire:
        """The answer of a call, or a task if it says that its job goes on.

        Raises:
            PerstackError: The job could not be begun, or the store cannot be read.
        """
        content: object = answer.structured_content
        if not isinstance(content, dict):
            return answer
        said = cast("dict[str, Any]", content)
        return await self._begun(said["job_id"]) if said.get("status") == "running" else answer

    async def get(self, task: str, caller: Caller) -> Wire:
        """How a task stands. One that nobody works on any more is taken up again.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        return detailed(await self._standing(task, caller, has_forms=caller.has_forms))

    async def update(self, task: str, responses: Mapping[str, Any], caller: Caller) -> None:
        """Answer questions of a task. What answers no open question is ignored.

        Raises:
            NotFoundError: There is no such task.
            BadArguments: An answer does not fit its question, which stays open.
            JobStateError: The job cannot go on just now; the question stays open.
            StoreError: The store cannot be read or written.
        """
        standing = await self._standing(task, caller, has_forms=True)
        if standing.status != "input_required":
            return
        job_id, _ = parts_of(task)
        asking = await self._engine.job(job_id)
        if not caller.may_run(asking.job.coordinator_expert_key):
            raise NotFoundError("A task that the caller may not take on.")
        questions = asking.questions
        forms = [
            (question, form)
            for question in questions
            if (form := _filled(responses.get(question.id))) is not None
        ]
        for position, (question, form) in enumerate(forms, start=1):
            await self._answer(job_id, question, form, is_last=position == len(questions))
        if any(form.action == "cancel" for _, form in forms):
            # Nobody will answer here, so the caller's model is told what is asked.
            self._settle(standing, await self._engine.job(job_id))

    async def cancel(self, task: str, caller: Caller) -> None:
        """Stop a task. One that has finished stays as it is.

        Raises:
            NotFoundError: There is no such task.
            StoreError: The store cannot be read.
        """
        standing = await self._standing(task, None, has_forms=caller.has_forms)
        if standing.status not in UNFINISHED:
            return
        job_id, _ = parts_of(task)
        with suppress(JobStateError):  # somebody works on it, and does not stop
            await self._engine.cancel(job_id, CLIENT_CANCELLED)
            standing = await self._standing(task, None, has_forms=caller.has_forms)
            if standing.status in UNFINISHED:  # because nobody did
                await self._engine.give_up(job_id, CLIENT_CANCELLED)

    async def _begun(self, job_id: str) -> Wire:
        """The task for the newest stretch of a running job, once its first event is durable."""
        found = await self._until_begun(job_id)
        task = self._unused(job_id, len(found) - 1)
        created_at = found[-1].began_at
        self._forget_stopped()
        live = self._engine.running(job_id)
        if live is not None:
            self._live[task] = _Live(live, created_at)
        return created(
            Standing(task_id=task, status="working", created_at=created_at, updated_at=created_at)
        )

    def _unused(self, job_id: str, number: int) -> str:
        ids = (task_id(job_id, number, again) for again in count())
        return next(task for task in ids if task not in self._settled)

    async def _until_begun(self, job_id: str) -> list[Stretch]:
        live = self._engine.running(job_id)
        if live is None:
            return stretches(await self._engine.trail(job_id))
        with live.watch() as events:
            found = await self._stored(job_id)
            while not found or found[-1].stop is not None:
                if not await _something_durable(events):
                    await live.wait(0)
                    return stretches(await self._engine.trail(job_id))
                found = await self._stored(job_id)
        return found

    async def _stored(self, job_id: str) -> list[Stretch]:
        try:
            return stretches(await self._engine.trail(job_id))
        except NotFoundError:
            return []

    async def _standing(self, task: str, wanted_by: Caller | None, *, has_forms: bool) -> Standing:
        """How a task stands; one that is wanted and that nobody works on is taken up again."""
        if (settled := self._settled.get(task)) is not None:
            return settled
        if (kept := self._live.get(task)) is not None:
            standing = await self._at_work(task, kept, has_forms=has_forms)
            if standing is not None:
                return standing
        job_id, number = parts_of(task)
        trail = await self._engine.trail(job_id)
        found = stretches(trail)
        rest = rest_of(found, number, has_forms=has_forms)
        if rest is None:
            raise NotFoundError(f"There is no task {task}.")
        past = Past(task, trail, found[number].began_at, rest.stretch)
        match rest.course:
            case "finished":
                return self._finished(past)
            case "superseded":
                return past.standing("cancelled", message=SUPERSEDED)
            case "waiting":
                return past.waiting()
            case "open":
                return await self._going_on(past, wanted_by, has_forms=has_forms)

    def _finished(self, past: Past) -> Standing:
        match past.stretch.stop:
            case ev.StopRunByCancellation(reason=reason):
                return past.standing("cancelled", message=reason)
            case ev.StopRunByError(error=error) if error.name == ev.BUG:
                return past.standing("failed", error_payload(error.message))
            case _:
                return past.standing("completed", result_payload(self._result(past.view())))

    async def _going_on(self, past: Past, wanted_by: Caller | None, *, has_forms: bool) -> Standing:
        job_id, _ = parts_of(past.task)
        job = self._engine.running(job_id)
        present = (await self._engine.job(job_id)).job
        is_wanted = wanted_by is not None and wanted_by.may_run(present.coordinator_expert_key)
        # What has stopped in any other way has done so since the trail was read.
        is_left = present.status == "interrupted" or (
            past.stretch.stop is not None and present.status == "stoppedByCancellation"
        )
        if job is None and is_left and is_wanted:
            try:
                job = await self._engine.start(JobRequest(job_id=job_id))
            except JobStateError as error:
                # Another process was quicker, or too much is going on just now.
                return past.standing("working", message=error.message)
            except StoreError:
                raise
            except PerstackError as error:
                return self._remember(past.standing("failed", error_payload(str(error))))
        if job is not None:
            kept = self._live[past.task] = _Live(job, past.created_at)
            self._forget_stopped()
            standing = await self._at_work(past.task, kept, has_forms=has_forms)
            if standing is not None:
                return standing
        return past.standing("working", message=past.line)

    async def _at_work(self, task: str, kept: _Live, *, has_forms: bool) -> Standing | None:
        """How a task stands while this process drives its job; `None` once the events say it."""
        job = kept.job
        standing = Standing(
            task_id=task, status="working", created_at=kept.created_at, updated_at=kept.created_at
        )
        try:
            present = await job.wait(0)
        except LeaseLostError:
            present = None
        except PerstackError as error:
            return self._remember(
                replace(standing, status="failed", payload=error_payload(str(error)))
            )
        if present is None or self._engine.running(job.job_id) is not job:
            self._live.pop(task, None)
            return None
        standing = replace(standing, updated_at=present.job.updated_at)
        if present.questions and has_forms:
            payload = questions_payload(present.questions)
            return replace(standing, status="input_required", payload=payload)
        if present.questions:
            return self._settle(standing, present)
        return replace(standing, message=status_line(job.recent))

    async def _answer(
        self, job_id: str, question: Question, form: ElicitResult, *, is_last: bool
    ) -> None:
        answer = answer_of(question, form)
        if answer is None:
            _check(question, form)
            return
        live = self._engine.running(job_id)
        if live is not None and question.origin == "expert":
            await live.wait(SETTLING_SECONDS)  # with an earlier answer it stops again at once
        try:
            job = await self._engine.start(JobRequest(job_id=job_id, answer=answer))
        except JobStateError:
            present = await self._engine.job(job_id)
            if question.id in {each.id for each in present.questions}:
                raise
            return  # it came too late
        if job is live:
            return
        # Until the answer is stored, the question would still seem to be open.
        with job.watch() as events:
            await _something_durable(events)
        if not is_last:
            await job.wait(SETTLING_SECONDS)

    def _settle(self, standing: Standing, present: JobView) -> Standing:
        payload = result_payload(self._result(present))
        return self._remember(replace(standing, status="completed", payload=payload))

    def _result(self, present: JobView) -> CallToolResult:
        return job_result(present, has_job_tools=self._has_job_tools)

    def _remember(self, standing: Standing) -> Standing:
        self._settled[standing.task_id] = standing
        while len(self._settled) > MAX_REMEMBERED:
            del self._settled[next(iter(self._settled))]
        return standing

    def _forget_stopped(self) -> None:
        for task, kept in tuple(self._live.items()):
            if self._engine.running(kept.job.job_id) is not kept.job:
                del self._live[task]


async def _something_durable(events: Events) -> bool:
    """Wait for the next stored event; false if the job stops without one."""
    while True:
        try:
            _, checkpoint = await events.receive()
        except anyio.EndOfStream:
            return False
        if checkpoint is not None:
            return True


def _check(question: Question, form: ElicitResult) -> None:
    if form.action == "accept":
        problems = "; ".join(misfits(form.content or {}, question.schema))
        raise BadArguments(f"The answer to {question.id!r} does not fit: {problems}.")


def _filled(response: object) -> ElicitResult | None:
    try:
        return None if response is None else ElicitResult.model_validate(response)
    except ValidationError:
        return None
