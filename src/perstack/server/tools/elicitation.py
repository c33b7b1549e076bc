"""Questions to the user of the client that calls, by the way that its era of the protocol has.

A client of the older era is asked while its request is open. One of the newer gets the questions
in place of a result, and makes its call again with the answers; what it returns with them says
which job it was about, so that any process on the same store can go on with it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from perstack.core.elicitation import FormSchema, Question, form_errors
from perstack.jobs import JobHandle, JobView
from perstack.runtime.start_plan import InteractiveAnswer
from perstack.server.tools.arguments import InvalidArgumentsError
from perstack.server.tools.wait import ProgressReporter


def elicit_request_for(question: Question) -> ElicitRequest:
    """The form that a client shows to its user."""
    return ElicitRequest(
        params=ElicitRequestFormParams(message=question.message, requested_schema=question.schema)
    )


def parse_elicit_result(question: Question, result: ElicitResult) -> InteractiveAnswer | None:
    """What the user answers.

    `None` if the form was closed, or filled with what does not fit: the question stays open.
    """
    if result.action == "cancel":
        return None
    if result.action == "decline":
        return InteractiveAnswer(tool_call_id=question.id, is_declined=True)
    content = result.content or {}
    if form_errors(content, question.schema):
        return None
    return InteractiveAnswer(tool_call_id=question.id, content=content)


MAX_ELICITATION_ROUNDS = 8
"""Of questions to the user of one call; clients give up after ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestState:
    """What a call that is made again brings back from the round before.

    Attributes:
        job_id: The job that asked.
        run_id: Its run. A branch of the job may ask the same again, but not of this call.
        rounds: How often this call has been answered with questions.
    """

    job_id: str
    run_id: str
    rounds: int

    def to_json(self) -> str:
        """As it is handed to the client, sealed."""
        return json.dumps({"job": self.job_id, "run": self.run_id, "round": self.rounds})


@dataclass(frozen=True, slots=True, kw_only=True)
class ElicitationOutcome:
    """What a round of questions came to.

    Attributes:
        answers: The answers, refusals included.
        is_closed: Whether the user closed a form, so that its question stays open.
    """

    answers: tuple[InteractiveAnswer, ...]
    is_closed: bool


class Asking(Protocol):
    """A request whose client can be asked while it is open."""

    async def elicit(self, message: str, schema: FormSchema) -> ElicitResult:
        """What the user does with the form. A client that cannot show it has closed it."""
        ...


def parse_request_state(state: str | None) -> RequestState | None:
    """What a call brings back; `None` if it is made for the first time.

    Raises:
        BadArguments: It was not written here.
    """
    if state is None:
        return None
    try:
        fields: dict[str, Any] = json.loads(state)
        return RequestState(job_id=fields["job"], run_id=fields["run"], rounds=fields["round"])
    except (ValueError, KeyError, TypeError):
        raise InvalidArgumentsError(
            "The requestState of the call is not one of this server's."
        ) from None


def input_required_result(view: JobView, rounds: int) -> InputRequiredResult:
    """The open questions of a job in place of its result; `rounds` counts the rounds, from 1."""
    state = RequestState(job_id=view.job.id, run_id=view.checkpoint.run_id, rounds=rounds)
    return InputRequiredResult(
        input_requests={question.id: elicit_request_for(question) for question in view.questions},
        request_state=state.to_json(),
    )


def collect_answers(
    view: JobView, request_state: RequestState, responses: Mapping[str, object]
) -> ElicitationOutcome:
    """The answers to those questions that are still open; all others came too late."""
    answers: list[InteractiveAnswer] = []
    is_closed = False
    for question in view.questions if view.checkpoint.run_id == request_state.run_id else ():
        response = responses.get(question.id)
        if isinstance(response, ElicitResult):
            is_closed = is_closed or response.action == "cancel"
            answer = parse_elicit_result(question, response)
            answers += [] if answer is None else [answer]
    return ElicitationOutcome(answers=tuple(answers), is_closed=is_closed)


async def elicit(
    question: Question, call: Asking, job: JobHandle | None, progress: ProgressReporter
) -> ElicitResult | None:
    """What the user does with a question; `None` if it was settled by someone else meanwhile.

    Args:
        question: Is shown as a form.
        call: The open request.
        job: The job, if this process drives it.
        progress: Is kept alive, for clients that wait longer for those who show life.
    """
    result: ElicitResult | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_send_heartbeats, progress)
        if job is not None and question.origin == "skill":
            tasks.start_soon(_cancel_when_settled, question, job, tasks.cancel_scope)
        result = await call.elicit(question.message, question.schema)
        tasks.cancel_scope.cancel()
    return result


async def _send_heartbeats(progress: ProgressReporter) -> None:
    while True:
        await anyio.sleep_until(progress.next_heartbeat)
        await progress.heartbeat()


async def _cancel_when_settled(
    question: Question, job: JobHandle, scope: anyio.CancelScope
) -> None:
    with job.watch() as events:
        while question in job.open_questions:
            try:
                await events.receive()
            except anyio.EndOfStream:
                break
    scope.cancel()
