"""Elicitation: questions of a job to the user of the calling client.

A client of a protocol version with sessions is asked while its request is open. One of a later
version receives an `InputRequiredResult`, and repeats its call with the responses and the
`requestState`, which names the job: any process on the same store can answer the repeated call.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult

from perstack.core.elicitation import Question
from perstack.errors import JobStateError
from perstack.jobs import JobHandle, JobView
from perstack.runtime.answers import InteractiveAnswer, checked_content
from perstack.server.tools.arguments import InvalidArgumentsError
from perstack.server.tools.request import ToolCallRequest
from perstack.server.tools.wait import ProgressReporter


def elicit_request_for(question: Question) -> ElicitRequest:
    """The `elicitation/create` request for a question."""
    return ElicitRequest(
        params=ElicitRequestFormParams(message=question.message, requested_schema=question.schema)
    )


def answer_from(question: Question, result: ElicitResult) -> InteractiveAnswer | None:
    """The user's answer; `None` if the form was closed.

    Raises:
        InvalidArgumentsError: Its content does not fit the schema of the question.
    """
    if result.action == "cancel":
        return None
    answer = InteractiveAnswer(
        tool_call_id=question.id,
        content=result.content or {},
        is_declined=result.action == "decline",
    )
    try:
        checked_content(answer, question)
    except JobStateError as error:
        raise InvalidArgumentsError(error.message, hint=error.hint) from error
    return answer


def parse_elicit_result(question: Question, result: ElicitResult) -> InteractiveAnswer | None:
    """The user's answer; `None` if the form was closed or its content does not fit the schema."""
    try:
        return answer_from(question, result)
    except InvalidArgumentsError:
        return None


MAX_ELICITATION_ROUNDS = 8
"""How often one call may ask its user; clients give up after ten rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestState:
    """The `requestState` of a call: what its repetition needs to know of the earlier round.

    Attributes:
        job_id: The job that asked.
        run_id: The run that asked. A branch of the job may repeat a question, but not to this call.
        rounds: How often this call has returned questions.
    """

    job_id: str
    run_id: str
    rounds: int

    def to_json(self) -> str:
        """The text that the client receives, sealed."""
        return json.dumps({"job": self.job_id, "run": self.run_id, "round": self.rounds})


def parse_request_state(state: str | None) -> RequestState | None:
    """The state of the earlier round; `None` if the call is not a repetition.

    Raises:
        InvalidArgumentsError: The text was not written by this server.
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
    """The open questions of a job; `rounds` counts from 1."""
    state = RequestState(job_id=view.job.id, run_id=view.checkpoint.run_id, rounds=rounds)
    return InputRequiredResult(
        input_requests={question.id: elicit_request_for(question) for question in view.questions},
        request_state=state.to_json(),
    )


def collect_answers(
    view: JobView, request_state: RequestState, responses: Mapping[str, object]
) -> tuple[list[InteractiveAnswer], bool]:
    """The answers to the questions that are still open, including declined forms.

    Returns:
        The answers, and whether the user closed a form, which leaves its question open.
    """
    answers: list[InteractiveAnswer] = []
    is_closed = False
    for question in view.questions if view.checkpoint.run_id == request_state.run_id else ():
        response = responses.get(question.id)
        if isinstance(response, ElicitResult):
            is_closed = is_closed or response.action == "cancel"
            if (answer := parse_elicit_result(question, response)) is not None:
                answers.append(answer)
    return answers, is_closed


async def elicit(
    question: Question, call: ToolCallRequest, job: JobHandle | None, progress: ProgressReporter
) -> ElicitResult | None:
    """Ask the user of an open request; `None` if another client has answered meanwhile.

    Args:
        question: The question.
        call: The open request.
        job: The job, if this process drives it.
        progress: Sends heartbeats meanwhile, because some clients would time out without them.
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
