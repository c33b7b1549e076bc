"""The questions that the skill servers of a job have put to the user and that are still open.

They live in the process that drives the job: the server that asks waits in the middle of a call,
and is gone with it. So nothing of them is stored.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from perstack.core.answers import Reply, content_of, fields_of, misfits
from perstack.core.questions import Question, Schema
from perstack.errors import JobStateError
from perstack.runtime.continuation import InteractiveAnswer
from perstack.runtime.ports import NewId

PATIENCE_SECONDS = 3600.0
"""How long a server waits for the user before the question is closed."""


@dataclass(eq=False, slots=True)
class Asked:
    """A question on its way to an answer."""

    question: Question
    is_attended: bool
    reply: Reply = field(default_factory=lambda: Reply(action="cancel"))
    is_settled: anyio.Event = field(default_factory=anyio.Event)

    async def wait(self) -> Reply:
        """What the user answers; a closed form if nobody does, or nobody is there to do it."""
        if self.is_attended:
            with anyio.move_on_after(PATIENCE_SECONDS):
                await self.is_settled.wait()
        return self.reply


class OpenQuestions:
    """The questions of one job.

    Args:
        new_id: Makes the ids of questions.
        is_attended: Whether somebody answers. If not, each question is closed at once.
    """

    def __init__(self, new_id: NewId, *, is_attended: bool) -> None:
        self._new_id = new_id
        self._is_attended = is_attended
        self._asked: dict[str, Asked] = {}

    @property
    def open(self) -> tuple[Question, ...]:
        """What waits for an answer, oldest first."""
        return tuple(asked.question for asked in self._asked.values())

    @contextmanager
    def put(self, skill_name: str, message: str, schema: Schema) -> Generator[Asked]:
        """Open a question; leaving closes it, answered or not."""
        question = Question(
            id=f"ask-{self._new_id()}",
            tool_name=skill_name,
            message=message,
            schema=schema,
            origin="skill",
        )
        asked = Asked(question, self._is_attended)
        self._asked[question.id] = asked
        try:
            yield asked
        finally:
            self._asked.pop(question.id, None)
            asked.is_settled.set()

    def answer(self, answer: InteractiveAnswer) -> bool:
        """Settle a question. `False` if it is not open: answered before, or never asked.

        Raises:
            JobStateError: The answer does not fit the question, which stays open.
        """
        asked = self._find(answer.tool_call_id)
        if asked is None:
            return False
        asked.reply = _reply(answer, asked.question.schema)
        del self._asked[asked.question.id]
        asked.is_settled.set()
        return True

    def _find(self, question_id: str | None) -> Asked | None:
        if question_id is None:
            return next(iter(self._asked.values()), None)
        return self._asked.get(question_id)


def nobody() -> OpenQuestions:
    """For a job without anybody who could answer."""
    return OpenQuestions(lambda: "nobody", is_attended=False)


def _reply(answer: InteractiveAnswer, schema: Schema) -> Reply:
    if answer.is_declined:
        return Reply(action="decline")
    content = content_of(answer.text, schema) if answer.content is None else answer.content
    problems = misfits(content, schema)
    if problems:
        raise JobStateError(
            f"The answer does not fit the question: {'; '.join(problems)}.",
            hint=f"Answer with a JSON object; its fields are: {fields_of(schema)}.",
        )
    return Reply(action="accept", content=content)
