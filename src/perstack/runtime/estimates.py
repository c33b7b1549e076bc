"""Rough numbers of tokens, for what has not been sent yet."""

import json
from collections.abc import Iterable, Iterator, Sequence

from perstack.core.checkpoint import Checkpoint
from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    Message,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolMessage,
)
from perstack.core.tools import ToolDefinition
from perstack.models import FrozenModel

CHARACTERS_PER_TOKEN = 3
"""Less than most texts have, because a reservation should rather be too large."""

MEDIA_TOKENS = 1500
"""For an image or a file, whose size in tokens only the provider knows."""

FIRST_OUTPUT_ESTIMATE = 1024
"""For a run that has not generated anything yet."""

MIN_OUTPUT_ESTIMATE = 128


def estimate_output_tokens(earlier: Sequence[int]) -> int:
    """The largest reply so far, and a half more."""
    return max(max(earlier) * 3 // 2, MIN_OUTPUT_ESTIMATE) if earlier else FIRST_OUTPUT_ESTIMATE


def unseen_messages(checkpoint: Checkpoint) -> tuple[Message, ...]:
    """The messages that the last generation with a known number of tokens has not counted."""
    if not checkpoint.context_tokens:
        return checkpoint.messages
    messages = checkpoint.messages
    start = len(messages)
    while start and not isinstance(messages[start - 1], ExpertMessage):
        start -= 1
    return messages[start:]


def estimate_tokens(messages: Iterable[Message]) -> int:
    lengths = [_characters(part) for message in messages for part in _parts(message)]
    characters = sum(length for length in lengths if length is not None)
    return characters // CHARACTERS_PER_TOKEN + lengths.count(None) * MEDIA_TOKENS


def _parts(message: Message) -> Iterator[FrozenModel]:
    match message:
        case InstructionMessage():
            yield TextPart(text=message.stable + message.volatile)
        case ToolMessage():
            for result in message.contents:
                yield from result.contents
        case _:
            yield from message.contents


def _characters(part: FrozenModel) -> int | None:
    """The length of a part; `None` for an image or a file."""
    match part:
        case TextPart():
            return len(part.text)
        case ThinkingPart():
            return len(part.thinking)
        case ToolCallPart():
            return len(part.tool_name) + len(part.args_json)
        case _:
            return None


def estimate_tool_tokens(tools: Iterable[ToolDefinition]) -> int:
    characters = sum(
        len(tool.name) + len(tool.description) + len(json.dumps(tool.input_schema))
        for tool in tools
    )
    return characters // CHARACTERS_PER_TOKEN
