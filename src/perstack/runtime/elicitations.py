"""The open questions of a job's skill servers to the user.

They exist only in the process that drives the job: the server waits in the middle of a call and
ends with that process. So they are not stored.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from perstack.core.elicitation import ElicitationReply, FormSchema, Question
from perstack.runtime.answers import InteractiveAnswer, checked_content
from perstack.runtime.ports import NewId

ELICITATION_TIMEOUT_SECONDS = 3600.0
"""How long a server waits for the user before the question is closed."""


@dataclass(eq=False, slots=True)
class PendingQuestion:
    """An open question and its reply."""

    question: Question
    is_attended: bool
    reply: ElicitationReply = field(default_factory=lambda: ElicitationReply(action="cancel"))
    closed: anyio.Event = field(default_factory=anyio.Event)

    async def wait(self) -> ElicitationReply:
        """The user's reply, or `cancel` after the timeout or where no user is present."""
        if self.is_attended:
            with anyio.move_on_after(ELICITATION_TIMEOUT_SECONDS):
                await self.closed.wait()
        return self.reply


class PendingElicitations:
    """The questions of one job.

    Args:
        new_id: Makes the ids of questions.
        is_attended: Whether a user can answer. If not, each question is cancelled at once.
    """

    def __init__(self, new_id: NewId, *, is_attended: bool) -> None:
        self._new_id = new_id
        self._is_attended = is_attended
        self._pending: dict[str, PendingQuestion] = {}

    @property
    def open_questions(self) -> tuple[Question, ...]:
        """The open questions, oldest first."""
        return tuple(asked.question for asked in self._pending.values())

    @contextmanager
    def ask(self, skill_name: str, message: str, schema: FormSchema) -> Generator[PendingQuestion]:
        """Open a question; leaving closes it, answered or not."""
        question = Question(
            id=f"ask-{self._new_id()}",
            tool_name=skill_name,
            message=message,
            schema=schema,
            origin="skill",
        )
        pending = PendingQuestion(question, self._is_attended)
        self._pending[question.id] = pending
        try:
            yield pending
        finally:
            self._pending.pop(question.id, None)
            pending.closed.set()

    def answer(self, answer: InteractiveAnswer) -> bool:
        """Settle a question. `False` if it is not open: answered before, or never asked.

        Raises:
            JobStateError: The answer does not fit the question, which stays open.
        """
        pending = self._find(answer.tool_call_id)
        if pending is None:
            return False
        pending.reply = _to_elicitation_reply(answer, pending.question)
        del self._pending[pending.question.id]
        pending.closed.set()
        return True

    def _find(self, question_id: str | None) -> PendingQuestion | None:
        if question_id is None:
            return next(iter(self._pending.values()), None)
        return self._pending.get(question_id)


def unattended() -> PendingElicitations:
    """For a job without a user who could answer."""
    return PendingElicitations(lambda: "nobody", is_attended=False)


def _to_elicitation_reply(answer: InteractiveAnswer, question: Question) -> ElicitationReply:
    content = checked_content(answer, question)
    return ElicitationReply(action="decline" if answer.is_declined else "accept", content=content)
