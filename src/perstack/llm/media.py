"""Conversations without what a model may refuse: images, files, replies with tools of its own."""

import re
from collections.abc import Iterable, Iterator, Sequence

from perstack.core.messages import (
    ExpertMedia,
    ExpertMessage,
    ExpertPart,
    Message,
    ProviderPart,
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


def reduced_conversations(messages: Sequence[Message]) -> Iterator[tuple[Message, ...]]:
    """The conversation with less and less of what may be refused, if there is any of it.

    A provider refuses a reply of its own whose container has expired or whose tools have gone.
    """
    known = tuple(messages)
    for reduce in (without_provider_parts, without_media):
        reduced = reduce(known)
        if reduced != known:
            yield reduced
            known = reduced


def without_provider_parts(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with the text and the calls of each reply alone."""
    return tuple(
        _with_contents(part for part in message.contents if not isinstance(part, ProviderPart))
        if isinstance(message, ExpertMessage) and message.provider_part
        else message
        for message in messages
    )


def _with_contents(contents: Iterable[ExpertPart]) -> ExpertMessage:
    """A new message: a copy would keep what the old one has derived from its contents."""
    return ExpertMessage(contents=tuple(contents))


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
            return _with_contents(
                _note(part.mime_type) if isinstance(part, ExpertMedia) else part
                for part in message.contents
            )
        case _:
            return message


def _notes(parts: Sequence[UserPart | ResultPart]) -> tuple[UserPart | ResultPart, ...]:
    return tuple(part if isinstance(part, TextPart) else _note(part.mime_type) for part in parts)


def _note(mime_type: str) -> TextPart:
    return TextPart(text=f"[content of type {mime_type}, which this model cannot be shown]")
