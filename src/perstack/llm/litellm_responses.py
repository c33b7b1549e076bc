"""Parses litellm's responses and chunks into a `Generation`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import uuid4

from perstack.core.messages import FinishReason, ThinkingPart, ToolCallPart, Usage
from perstack.llm.messages import REDACTED_THINKING
from perstack.llm.wire.reply import merge_usage, parse_arguments
from perstack.runtime.ports import Deltas, Generation

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "tool_calls": "toolCalls",
    "function_call": "toolCalls",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "contentFilter",
    "refusal": "contentFilter",
}


class IncompleteResponseError(Exception):
    """The stream ended before a finish reason."""


def parse_response(response: Any) -> Generation:
    """An unstreamed reply."""
    if not response.choices:
        raise IncompleteResponseError("the reply has no choices")
    choice = response.choices[0]
    message = choice.message
    calls = tuple(
        parse_tool_call(call.id, call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
    )
    return Generation(
        text=message.content or "",
        thinking=_parse_thinking(
            getattr(message, "thinking_blocks", None), getattr(message, "reasoning_content", None)
        ),
        tool_calls=calls,
        finish_reason=parse_finish_reason(choice.finish_reason, has_calls=bool(calls)),
        usage=parse_usage(getattr(response, "usage", None)),
        response_id=response.id,
        response_model=response.model,
    )


def parse_finish_reason(reason: str | None, *, has_calls: bool) -> FinishReason:
    """The normalized finish reason. Some providers send `stop` although they call tools."""
    mapped = _FINISH_REASONS.get(reason or "", "other")
    return "toolCalls" if mapped == "stop" and has_calls else mapped


def parse_usage(counts: Any) -> Usage:
    """Token counts; those that the provider omits are 0."""
    if counts is None:
        return Usage()
    prompt = getattr(counts, "prompt_tokens_details", None)
    completion = getattr(counts, "completion_tokens_details", None)
    input_tokens, output_tokens = (
        _token_count(counts, "prompt_tokens"),
        _token_count(counts, "completion_tokens"),
    )
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=_token_count(completion, "reasoning_tokens"),
        total_tokens=_token_count(counts, "total_tokens") or input_tokens + output_tokens,
        cached_input_tokens=_token_count(prompt, "cached_tokens"),
        cache_creation_input_tokens=_token_count(prompt, "cache_creation_tokens"),
    )


def _token_count(counts: Any, name: str) -> int:
    value = getattr(counts, name, None)
    return value if isinstance(value, int) else 0


def parse_tool_call(call_id: str | None, name: str | None, arguments: Any) -> ToolCallPart:
    """A tool call; invalid arguments become its `args_error`."""
    args, error = parse_arguments(arguments)
    return ToolCallPart(
        # Ollama gives none, and a result must name the call that it answers.
        tool_call_id=call_id or f"call_{uuid4().hex}",
        tool_name=name or "",
        args=args,
        args_error=error,
    )


def _parse_thinking(blocks: Any, text: str | None) -> tuple[ThinkingPart, ...]:
    if blocks:
        return tuple(_parse_thinking_block(block) for block in blocks)
    return (ThinkingPart(thinking=text),) if text else ()


def _parse_thinking_block(block: Mapping[str, Any]) -> ThinkingPart:
    if block.get("type") == "redacted_thinking":
        return ThinkingPart(thinking="", signature=f"{REDACTED_THINKING}{block.get('data', '')}")
    return ThinkingPart(
        thinking=block.get("thinking") or "", signature=block.get("signature") or None
    )


@dataclass
class _PartialToolCall:
    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list[str])


class StreamedResponse:
    """Builds a reply from litellm's chunks, and passes each delta on.

    Chunks have OpenAI's shape; some, such as keep-alives and the end, are plain dicts.
    """

    def __init__(self, deltas: Deltas) -> None:
        self._deltas = deltas
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._thinking_blocks: list[dict[str, Any]] = []
        self._calls: dict[int, _PartialToolCall] = {}
        self._finish_reason: str | None = None
        self._usage = Usage()
        self._id: str | None = None
        self._model: str | None = None

    def add(self, chunk: Any) -> None:
        """Take the next chunk."""
        if isinstance(chunk, dict):
            self._add_dict_chunk(cast("dict[str, Any]", chunk))
            return
        self._id = self._id or chunk.id
        self._model = self._model or chunk.model
        if counts := getattr(chunk, "usage", None):
            self._usage = merge_usage(self._usage, parse_usage(counts))
        for choice in chunk.choices:
            self._add_delta(choice.delta)
            self._finish_reason = choice.finish_reason or self._finish_reason

    def _add_dict_chunk(self, chunk: dict[str, Any]) -> None:
        self._add_text(chunk.get("text"))
        if chunk.get("is_finished"):
            self._finish_reason = self._finish_reason or chunk.get("finish_reason") or "stop"

    def _add_delta(self, delta: Any) -> None:
        if reasoning := getattr(delta, "reasoning_content", None):
            self._thinking.append(reasoning)
            self._deltas.reasoning(reasoning)
        for block in getattr(delta, "thinking_blocks", None) or ():
            self._add_thinking_block(block)
        self._add_text(delta.content)
        for call in delta.tool_calls or ():
            self._add_tool_call(call)

    def _add_text(self, text: str | None) -> None:
        if text:
            self._text.append(text)
            self._deltas.text(text)

    def _add_thinking_block(self, piece: Mapping[str, Any]) -> None:
        if piece.get("type") == "redacted_thinking":
            self._thinking_blocks.append(dict(piece))
            return
        # A signature closes the block that it belongs to.
        last = self._thinking_blocks[-1] if self._thinking_blocks else None
        if last is None or last["type"] != "thinking" or last["signature"]:
            last = {"type": "thinking", "thinking": "", "signature": ""}
            self._thinking_blocks.append(last)
        last["thinking"] += piece.get("thinking") or ""
        last["signature"] += piece.get("signature") or ""

    def _add_tool_call(self, piece: Any) -> None:
        call = self._calls.setdefault(piece.index or 0, _PartialToolCall())
        call.id = call.id or piece.id
        call.name = call.name or piece.function.name
        call.arguments.append(piece.function.arguments or "")

    def result(self, first_chunk_seconds: float | None) -> Generation:
        """The whole reply.

        Raises:
            IncompleteResponseError: No chunk had a finish reason.
        """
        if self._finish_reason is None:
            raise IncompleteResponseError("the stream ended before the reply was finished")
        calls = tuple(
            parse_tool_call(call.id, call.name, "".join(call.arguments))
            for _, call in sorted(self._calls.items())
        )
        return Generation(
            text="".join(self._text),
            thinking=_parse_thinking(self._thinking_blocks, "".join(self._thinking)),
            tool_calls=calls,
            finish_reason=parse_finish_reason(self._finish_reason, has_calls=bool(calls)),
            usage=self._usage,
            response_id=self._id,
            response_model=self._model,
            first_chunk_seconds=first_chunk_seconds,
        )
