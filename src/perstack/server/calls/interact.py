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
from mcp_types import ElicitResult, InputRequiredResult

from perstack.core.questions import Question, Schema
from perstack.jobs import JobView
from perstack.runtime.continuation import InteractiveAnswer
from perstack.server.calls.arguments import BadArguments
from perstack.server.calls.forms import answer_of, form_of
from perstack.server.calls.waiting import Progress
from perstack.server.port import ServedJob

MAX_ROUNDS = 8
"""Of questions to the user of one call; clients give up after ten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a call that is made again brings back from the round before.

    Attributes:
        job_id: The job that asked.
        run_id: Its run. A branch of the job may ask the same again, but not of this call.
        number: How often this call has been answered with questions.
    """

    job_id: str
    run_id: str
    number: int

    def written(self) -> str:
        """As it is handed to the client, sealed."""
        return json.dumps({"job": self.job_id, "run": self.run_id, "round": self.number})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a round of questions came to.

    Attributes:
        given: The answers, refusals included.
        is_closed: Whether the user closed a form, so that its question stays open.
    """

    given: tuple[InteractiveAnswer, ...]
    is_closed: bool


class Asking(Protocol):
    """A request whose client can be asked while it is open."""

    async def elicit(self, message: str, schema: Schema) -> ElicitResult:
        """What the user does with the form. A client that cannot show it has closed it."""
        ...


def round_of(state: str | None) -> Round | None:
    """What a call brings back; `None` if it is made for the first time.

    Raises:
        BadArguments: It was not written here.
    """
    if state is None:
        return None
    try:
        said: dict[str, Any] = json.loads(state)
        return Round(job_id=said["job"], run_id=said["run"], number=said["round"])
    except (ValueError, KeyError, TypeError):
        raise BadArguments("The requestState of the call is not one of this server's.") from None


def input_required(view: JobView, number: int) -> InputRequiredResult:
    """The open questions of a job in place of its result; `number` counts the rounds, from 1."""
    state = Round(job_id=view.job.id, run_id=view.checkpoint.run_id, number=number)
    return InputRequiredResult(
        input_requests={question.id: form_of(question) for question in view.questions},
        request_state=state.written(),
    )


def answers_to(view: JobView, earlier: Round, responses: Mapping[str, object]) -> Answers:
    """The answers to those questions that are still open; all others came too late."""
    given: list[InteractiveAnswer] = []
    is_closed = False
    for question in view.questions if view.checkpoint.run_id == earlier.run_id else ():
        response = responses.get(question.id)
        if isinstance(response, ElicitResult):
            is_closed = is_closed or response.action == "cancel"
            answer = answer_of(question, response)
            given += [] if answer is None else [answer]
    return Answers(given=tuple(given), is_closed=is_closed)


async def put(
    question: Question, call: Asking, job: ServedJob | None, progress: Progress
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
        tasks.start_soon(_show_life, progress)
        if job is not None and question.origin == "skill":
            tasks.start_soon(_withdraw_when_settled, question, job, tasks.cancel_scope)
        result = await call.elicit(question.message, question.schema)
        tasks.cancel_scope.cancel()
    return result


async def _show_life(progress: Progress) -> None:
    while True:
        await anyio.sleep_until(progress.next_beat)
        await progress.beat()


async def _withdraw_when_settled(
    question: Question, job: ServedJob, asking: anyio.CancelScope
) -> None:
    with job.watch() as events:
        while question in job.open_questions:
            try:
                await events.receive()
            except anyio.EndOfStream:
                break
    asking.cancel()
