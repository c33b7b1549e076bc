"""Conversations for models that cannot see images and files."""

import re
from collections.abc import Sequence

from perstack.core.messages import Message, TextPart, ToolMessage, UserMessage

_BLIND = re.compile(
    r"(?=.*\b(images?|vision|multi-?modal))(?=.*(support|modalit|vision))"
    r"(?!.*\b(format|mime|types?|size|large|corrupt))",
    re.IGNORECASE | re.DOTALL,
)


def says_that_model_is_blind(error_text: str) -> bool:
    """Whether a refusal is about the model, and not about one image that it cannot read."""
    return _BLIND.match(error_text) is not None


def has_media(messages: Sequence[Message]) -> bool:
    """Whether a message or a tool result holds an image or a file."""
    return any(
        not isinstance(part, TextPart)
        for message in messages
        if isinstance(message, UserMessage | ToolMessage)
        for part in _parts(message)
    )


def without_media(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with a note in place of each image and file."""
    return tuple(
        _with_notes(message) if isinstance(message, UserMessage | ToolMessage) else message
        for message in messages
    )


def _parts(message: UserMessage | ToolMessage) -> list[object]:
    if isinstance(message, UserMessage):
        return list(message.contents)
    return [part for result in message.contents for part in result.contents]


def _with_notes(message: UserMessage | ToolMessage) -> UserMessage | ToolMessage:
    if isinstance(message, UserMessage):
        notes = tuple(
            part if isinstance(part, TextPart) else _note(part.mime_type)
            for part in message.contents
        )
        return message.model_copy(update={"contents": notes})
    results = tuple(
        result.model_copy(
            update={
                "contents": tuple(
                    part if isinstance(part, TextPart) else _note(part.mime_type)
                    for part in result.contents
                )
            }
        )
        for result in message.contents
    )
    return message.model_copy(update={"contents": results})


def _note(mime_type: str) -> TextPart:
    return TextPart(text=f"[content of type {mime_type}, which this model cannot be shown]")
