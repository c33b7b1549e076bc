"""Conversations for models that cannot see images and files."""

import re
from collections.abc import Sequence

from perstack.core.messages import (
    ExpertMessage,
    FileInlinePart,
    ImageInlinePart,
    Message,
    ResultPart,
    TextPart,
    ToolMessage,
    UserMessage,
    UserPart,
)

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
    return without_media(messages) != tuple(messages)


def without_media(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with a note in place of each image and file."""
    return tuple(map(_with_notes, messages))


def _with_notes(message: Message) -> Message:
    match message:
        case UserMessage():
            return message.model_copy(update={"contents": _notes(message.contents)})
        case ToolMessage():
            results = tuple(
                result.model_copy(update={"contents": _notes(result.contents)})
                for result in message.contents
            )
            return message.model_copy(update={"contents": results})
        case ExpertMessage() if message.media:
            contents = tuple(
                _note(part.mime_type)
                if isinstance(part, ImageInlinePart | FileInlinePart)
                else part
                for part in message.contents
            )
            return message.model_copy(update={"contents": contents})
        case _:
            return message


def _notes(parts: Sequence[UserPart | ResultPart]) -> tuple[UserPart | ResultPart, ...]:
    return tuple(part if isinstance(part, TextPart) else _note(part.mime_type) for part in parts)


def _note(mime_type: str) -> TextPart:
    return TextPart(text=f"[content of type {mime_type}, which this model cannot be shown]")
