"""One call of an expert's tool: from what it asks for to what its caller is told.

Jobs belong to the engine, not to the request, so a request that ends leaves its job alone. One that
is cancelled stops the job that it set in motion: its caller no longer wants it.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import anyio
from mcp_types import ElicitResult, InputRequiredResult

from perstack.core.events import StopRunByCancellation
from perstack.core.questions import Schema
from perstack.definition.model import Expert
from perstack.errors import JobStateError
from perstack.jobs import SHUT_DOWN, JobView
from perstack.runtime.continuation import InteractiveAnswer, JobRequest
from perstack.server.caller import Caller
from perstack.server.calls.forms import answer_of
from perstack.server.calls.interact import MAX_ROUNDS, Round, answers_to, input_required, put
from perstack.server.calls.waiting import Progress, Rhythm, follow, wait_for
from perstack.server.port import ServedEngine, ServedJob

CLIENT_CANCELLED = "cancelled by the client"
SETTLING_SECONDS = 5.0

Outcome = JobView | InputRequiredResult


class Visitor(Protocol):
    """The request of a call."""

    @property
    def caller(self) -> Caller:
        """Who calls."""
        ...

    async def report(self, progress: float, message: str) -> None:
        """Send a progress notification, if the client wants any."""
        ...

    async def elicit(self, message: str, schema: Schema) -> ElicitResult:
        """Put a question to the user while the request is open."""
        ...


class Visit:
    """One call.

    Args:
        engine: Where the jobs are.
        expert: Whose tool is called.
        call: The request.
        seconds: How long to wait for the job; the time in which the user is asked does not count.
        rhythm: How often to look and to report.
        on_known: Is told the id of the job.

    Attributes:
        job_id: The job, once it is known.
    """

    def __init__(
        self,
        engine: ServedEngine,
        expert: Expert,
        call: Visitor,
        *,
        seconds: float,
        rhythm: Rhythm,
        on_known: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._on_known = on_known
        self._expert = expert
        self._call = call
        self._left = seconds
        self._rhythm = rhythm
        self._progress = Progress(call.report, rhythm.heartbeat_seconds)
        self._ours: ServedJob | None = None
        self.job_id: str | None = None

    async def serve(self, request: JobRequest, responses: Mapping[str, object]) -> Outcome:
        """Begin or continue a job, and ask what it asks.

        Args:
            request: What is wanted of the job.
            responses: Answers that come before they are asked for, by the id of the question.

        Raises:
            PerstackError: It cannot be done; the message says why.
        """
        try:
            view = await self._stand(request)
            if not view.questions or not responses:
                return await self._ask(view, rounds=0)
            ahead = Round(job_id=view.job.id, run_id=view.checkpoint.run_id, number=0)
            return await self._go_on(ahead, responses)
        except anyio.get_cancelled_exc_class():
            self._stop()
            raise

    async def serve_again(self, earlier: Round, responses: Mapping[str, object]) -> Outcome:
        """Go on with a job with what the user has answered.

        Raises:
            PerstackError: It cannot be done; the message says why.
        """
        try:
            return await self._go_on(earlier, responses)
        except anyio.get_cancelled_exc_class():
            self._stop()
            raise

    async def _go_on(self, earlier: Round, responses: Mapping[str, object]) -> Outcome:
        view = await self._engine.job(earlier.job_id)
        answers = answers_to(view, earlier, responses)
        for answer in answers.given:
            view = await self._answer(view, answer)
        if answers.is_closed:
            return view
        if await self._was_left(view):
            # The process that asked has ended, and its question with it.
            view = await self._stand(JobRequest(job_id=earlier.job_id))
        elif not answers.given:
            view = await self._follow(earlier.job_id)
        return await self._ask(view, earlier.number)

    async def _was_left(self, view: JobView) -> bool:
        """Whether the process that worked on the job has ended before it, in whatever way."""
        if view.job.status != "stoppedByCancellation":
            return view.job.status == "interrupted"
        events = reversed(await self._engine.trail(view.job.id))
        stop = next((event for event, after in events if after.id == view.checkpoint.id), None)
        return isinstance(stop, StopRunByCancellation) and stop.reason == SHUT_DOWN

    async def _ask(self, view: JobView, rounds: int) -> Outcome:
        caller = self._call.caller
        if caller.is_modern:
            is_asked = view.questions and caller.has_forms and rounds < MAX_ROUNDS
            return input_required(view, rounds + 1) if is_asked else view
        while view.questions and caller.can_be_asked and rounds < MAX_ROUNDS:
            rounds += 1
            question, job_id = view.questions[0], view.job.id
            live = self._engine.running(job_id)
            result = await put(question, self._call, live, self._progress)
            if result is not None and result.action == "cancel":
                return await self._engine.job(job_id)
            answer = None if result is None else answer_of(question, result)
            if answer is None:
                view = await self._follow(job_id)
            else:
                view = await self._answer(view, answer)
        return view

    async def _answer(self, view: JobView, answer: InteractiveAnswer) -> JobView:
        request = JobRequest(expert_key=self._expert.key, job_id=view.job.id, answer=answer)
        # With other questions open the job stops again at once, and takes no answer before that.
        has_others = len(view.questions) > 1
        return await self._stand(request, SETTLING_SECONDS if has_others else 0.0)

    async def _stand(self, request: JobRequest, at_least: float = 0.0) -> JobView:
        """How the job of a request stands, once it has stopped, asks, or time is up."""
        before = self._engine.running(request.job_id) if request.job_id else None
        self._check_expert(before)
        try:
            job = await self._engine.start(request)
        except JobStateError:
            if request.job_id is None or not await self._is_settled_elsewhere(request):
                raise
            return await self._follow(request.job_id)
        self._know(job.job_id)
        if job is not before or request.answer is not None:
            self._ours = job
        began = anyio.current_time()
        view = await wait_for(job, max(self._left, at_least), self._progress)
        self._spend(began)
        return view

    async def _follow(self, job_id: str) -> JobView:
        self._know(job_id)
        began = anyio.current_time()
        view = await follow(
            self._engine, job_id, self._left, self._progress, self._rhythm.poll_seconds
        )
        self._spend(began)
        return view

    async def _is_settled_elsewhere(self, request: JobRequest) -> bool:
        """Whether there is only to wait for a job that another process drives, or just drove.

        That is also so if the answer to its question came from somewhere else.
        """
        if request.job_id is None or request.checkpoint_id is not None:
            return False
        view = await self._engine.job(request.job_id)
        if request.answer is not None:
            return request.answer.tool_call_id not in {each.id for each in view.questions}
        is_same = request.query.strip() in ("", view.job.query.strip())
        return is_same and view.job.coordinator_expert_key == self._expert.key

    def _check_expert(self, live: ServedJob | None) -> None:
        if live is not None and live.expert_key != self._expert.key:
            raise JobStateError(
                f"Job {live.job_id} belongs to {live.expert_key!r}, not to {self._expert.key!r}.",
                hint=f"Continue it with {live.expert_key!r}.",
            )

    def _know(self, job_id: str) -> None:
        self.job_id = job_id
        self._on_known(job_id)

    def _spend(self, began: float) -> None:
        self._left = max(0.0, self._left - (anyio.current_time() - began))

    def _stop(self) -> None:
        if self._ours is not None:
            self._ours.cancel(CLIENT_CANCELLED)
