"""An open question as a form of the protocol, and the filled form as the user's answer."""

from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult

from perstack.core.answers import misfits
from perstack.core.questions import Question
from perstack.runtime.continuation import InteractiveAnswer


def form_of(question: Question) -> ElicitRequest:
    """The form that a client shows to its user."""
    return ElicitRequest(
        params=ElicitRequestFormParams(message=question.message, requested_schema=question.schema)
    )


def answer_of(question: Question, result: ElicitResult) -> InteractiveAnswer | None:
    """What the user answers.

    `None` if the form was closed, or filled with what does not fit: the question stays open.
    """
    if result.action == "cancel":
        return None
    if result.action == "decline":
        return InteractiveAnswer(tool_call_id=question.id, is_declined=True)
    content = result.content or {}
    if misfits(content, question.schema):
        return None
    return InteractiveAnswer(tool_call_id=question.id, content=content)
