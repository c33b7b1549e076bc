"""Answers of users: one rule for what a question takes, whichever way the answer comes in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perstack.core.argument_coercion import coerce
from perstack.core.elicitation import (
    FormContent,
    Question,
    answer_format,
    form_errors,
    is_free_text,
    parse_reply,
)
from perstack.errors import JobStateError


@dataclass(frozen=True, slots=True, kw_only=True)
class InteractiveAnswer:
    """The user's answer to a question of an expert.

    Attributes:
        text: What the user says.
        tool_call_id: The id of the question; without it, the first open one.
        content: The fields of a form, where the user was given one.
        is_declined: The user declines to answer, which the expert reads.
    """

    text: str = ""
    tool_call_id: str | None = None
    content: Mapping[str, Any] | None = None
    is_declined: bool = False


def checked_content(answer: InteractiveAnswer, question: Question) -> FormContent:
    """The fields that an answer fills in; one that is declined has none.

    Raises:
        JobStateError: They do not fit the schema of the question, which stays open.
    """
    if answer.is_declined:
        return {}
    content: FormContent
    if answer.content is not None:
        content = dict(answer.content)
    elif is_free_text(question.schema):
        (name,) = question.schema["properties"]
        content = {name: answer.text}
    else:
        content = parse_reply(answer.text, question.schema)
    # Clients send what was typed into a field of numbers as a text.
    content = coerce(content, question.schema, {})
    problems = form_errors(content, question.schema)
    if problems:
        raise JobStateError(
            f"The answer does not fit the question: {'; '.join(problems)}.",
            hint=answer_format(question.schema) or "The question stays open.",
        )
    return content
