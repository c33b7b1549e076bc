"""The provider `scripted`: plays a script of replies, so that definitions run without a key.

A script is a TOML or JSON file (by its suffix). Under `experts` it has a list of replies for each
expert key:

    [[experts.greeter]]
    text = "Let me look."
    toolCalls = [{ name = "readTextFile", args = { path = "{{query}}" } }]

    [[experts.greeter]]
    text = "It says: {{lastToolResult}}"

Which reply is played depends on the conversation alone: an expert that has spoken n times so far
gets its reply n + 1. So a run that is resumed in another process continues where it was.
`docs/scripted.md` describes the fields.
"""

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any, cast

import anyio

from perstack.core.messages import (
    ExpertMessage,
    InstructionMessage,
    Message,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolMessage,
    Usage,
    UserMessage,
)
from perstack.core.typed_io import INPUT_HEADING
from perstack.definition.model import Expert, ModelChoice
from perstack.errors import ModelError
from perstack.llm.errors import is_retryable, status_name, timeout_error
from perstack.llm.scripted.script import Script, ScriptedError, ScriptedReply
from perstack.llm.selection import ModelSelector
from perstack.runtime.ports import Deltas, Generation, GenerationRequest

SCRIPTED_PROVIDER = "scripted"
SCRIPTED_MODEL = "scripted"
_PLACEHOLDER = re.compile(r"\{\{(query|lastToolResult)(?:\.(\w+))?\}\}")
_PIECE_CHARACTERS = 12
_CHARACTERS_PER_TOKEN = 4


class ScriptedModel:
    """Replays a script."""

    def __init__(self, selector: ModelSelector, script: Script) -> None:
        self._selector = selector
        self._script = script
        self._failure_counts: dict[tuple[str, str, int], int] = {}

    def choose(self, expert: Expert) -> ModelChoice:
        return self._selector.choose(expert)

    def is_ready(self, choice: ModelChoice) -> bool:
        return True

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to close."""

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        if request.purpose == "summary":
            return _summary(request)
        index = request.earlier_replies + _count_replies(request.messages)
        reply = self._select_reply(request, index)
        seconds = request.choice.timeout_seconds
        try:
            with anyio.fail_after(seconds):
                if reply.error is not None and self._should_fail(request, index, reply.error):
                    await anyio.sleep(reply.delay_seconds)
                    raise _scripted_failure(reply.error)
                generation = _build_generation(request, reply, index)
                await _emit_deltas(generation, reply.delay_seconds, deltas)
        except TimeoutError as error:
            raise timeout_error(seconds, provider=SCRIPTED_PROVIDER) from error
        return generation

    def _select_reply(self, request: GenerationRequest, index: int) -> ScriptedReply:
        expert_key = request.expert_key
        replies = self._script.replies(expert_key, _first_query(request.messages))
        if index < len(replies):
            return replies[index]
        available = f"it has {len(replies)}" if replies else "it has none for this expert"
        raise ModelError(
            f"the script {self._script.name} has no reply {index + 1} for expert "
            f"{expert_key!r}: {available}",
            name="ScriptEndedError",
            provider=SCRIPTED_PROVIDER,
        )

    def _should_fail(self, request: GenerationRequest, index: int, error: ScriptedError) -> bool:
        if error.times is None:
            return True
        key = (request.conversation_id, request.expert_key, index)
        count = self._failure_counts.get(key, 0) + 1
        if count > error.times:
            self._failure_counts.pop(key, None)
            return False
        self._failure_counts[key] = count
        return True


def _summary(request: GenerationRequest) -> Generation:
    text = "A scripted model summarizes nothing."
    return Generation(text=text, usage=_estimate_usage(request.messages, text, ()))


def _count_replies(messages: Sequence[Message]) -> int:
    """The number of the model's replies in a conversation.

    The result of an accepted `attemptCompletion` closes a conversation as one more message of the
    expert, which was not a reply of its own.
    """
    count = 0
    for previous, message in zip((None, *messages), messages, strict=False):
        count += isinstance(message, ExpertMessage) and not _has_completed(previous)
    return count


def _has_completed(message: Message | None) -> bool:
    return isinstance(message, ToolMessage) and any(
        result.tool_name == "attemptCompletion"
        and [part.text for part in result.contents if isinstance(part, TextPart)] == ["{}"]
        for result in message.contents
    )


def _scripted_failure(error: ScriptedError) -> ModelError:
    name = error.name or (status_name(error.status) if error.status else "ScriptedError")
    return ModelError(
        error.message,
        name=name,
        provider=SCRIPTED_PROVIDER,
        status=error.status,
        is_retryable=error.status is not None and is_retryable(error.status),
        retry_after_seconds=error.retry_after_seconds,
    )


def _build_generation(request: GenerationRequest, reply: ScriptedReply, index: int) -> Generation:
    values = {
        "query": _last_query(request.messages),
        "lastToolResult": _last_tool_result(request.messages),
    }
    calls = tuple(
        ToolCallPart(
            tool_call_id=call.id or _call_id(request, index, number),
            tool_name=call.name,
            args=cast("dict[str, Any]", _fill_placeholders(call.args, values)),
        )
        for number, call in enumerate(reply.tool_calls)
    )
    text = cast("str", _fill_placeholders(reply.text, values))
    return Generation(
        text=text,
        thinking=(ThinkingPart(thinking=reply.thinking),) if reply.thinking else (),
        tool_calls=calls,
        finish_reason=reply.finish_reason or ("toolCalls" if calls else "stop"),
        usage=reply.usage or _estimate_usage(request.messages, text + reply.thinking, calls),
        response_id=_call_id(request, index, -1).replace("call_", "reply_"),
        response_model=request.choice.model,
    )


def _call_id(request: GenerationRequest, index: int, number: int) -> str:
    """A deterministic id, unique per position and conversation."""
    seed = f"{request.conversation_id}\n{request.expert_key}\n{index}\n{number}"
    return f"call_{sha256(seed.encode()).hexdigest()[:24]}"


def _last_query(messages: Sequence[Message]) -> str:
    last = next((item for item in reversed(messages) if isinstance(item, UserMessage)), None)
    return "" if last is None else text_of(last)


def _first_query(messages: Sequence[Message]) -> str:
    first = next((item for item in messages if isinstance(item, UserMessage)), None)
    return "" if first is None else text_of(first)


def text_of(message: UserMessage) -> str:
    """The text of a user message."""
    return "\n".join(part.text for part in message.contents if isinstance(part, TextPart))


def _last_tool_result(messages: Sequence[Message]) -> str:
    last = next((item for item in reversed(messages) if isinstance(item, ToolMessage)), None)
    if last is None or not last.contents:
        return ""
    contents = last.contents[-1].contents
    return "\n".join(part.text for part in contents if isinstance(part, TextPart))


def _fill_placeholders(value: Any, values: dict[str, str]) -> Any:
    """The value with its placeholders replaced, however deep they are."""
    if isinstance(value, str):
        # In one pass, so that a placeholder inside a tool's result stays what it is.
        return _PLACEHOLDER.sub(lambda found: _placeholder_value(found, values), value)
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {key: _fill_placeholders(item, values) for key, item in table.items()}
    if isinstance(value, list):
        return [_fill_placeholders(item, values) for item in cast("list[Any]", value)]
    return value


def _placeholder_value(match: re.Match[str], values: dict[str, str]) -> str:
    """The value of a placeholder; the whole text if it does not have the field."""
    text, field = values[match[1]], match[2]
    try:
        # Typed arguments follow a heading, a tool result does not.
        table: Any = json.loads(text.rpartition(INPUT_HEADING)[2]) if field else None
    except ValueError:
        return text
    if not isinstance(table, dict) or field not in table:
        return text
    value = cast("dict[str, Any]", table)[field]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _estimate_usage(
    messages: Sequence[Message], output_text: str, calls: Sequence[ToolCallPart]
) -> Usage:
    """Estimated counts, so that budgets and statistics can be tried."""
    input_tokens = sum(_character_count(message) for message in messages) // _CHARACTERS_PER_TOKEN
    output_tokens = (
        len(output_text) + sum(len(str(call.args)) for call in calls)
    ) // _CHARACTERS_PER_TOKEN + 1
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
    )


def _character_count(message: Message) -> int:
    match message:
        case InstructionMessage():
            return len(message.stable) + len(message.volatile)
        case ToolMessage():
            parts = [part for result in message.contents for part in result.contents]
        case UserMessage() | ExpertMessage():
            parts = message.contents
    return sum(len(part.text) for part in parts if isinstance(part, TextPart))


async def _emit_deltas(generation: Generation, delay_seconds: float, deltas: Deltas | None) -> None:
    """Wait for the delay, and emit the reply in pieces during it."""
    if deltas is None:
        await anyio.sleep(delay_seconds)
        return
    pieces = [
        (deltas.reasoning, piece)
        for part in generation.thinking
        for piece in _split_text(part.thinking)
    ]
    pieces += [(deltas.text, piece) for piece in _split_text(generation.text)]
    pause = delay_seconds / max(1, len(pieces))
    for emit, piece in pieces:
        await anyio.sleep(pause)
        emit(piece)
    if not pieces:
        await anyio.sleep(delay_seconds)


def _split_text(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE_CHARACTERS):
        yield text[start : start + _PIECE_CHARACTERS]
