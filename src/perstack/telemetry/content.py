"""Content of conversations as JSON in span attributes: opt-in, bounded and redacted.

Binary data is never included.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import Span

from perstack.core import messages as msg
from perstack.redaction import Redactor
from perstack.runtime.ports import Generation
from perstack.telemetry import semconv

DEFAULT_CONTENT_LIMIT = 16_384
MIN_MESSAGE_CHARACTERS = 128
"""Size of the JSON of a message whose text is truncated to almost nothing."""

ROLES: dict[type[msg.Message], str] = {
    msg.UserMessage: "user",
    msg.ExpertMessage: "assistant",
    msg.ToolMessage: "tool",
}

Part = dict[str, Any]
"""A part of a document; its texts are `_Text` until it is rendered."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text of a document that may be truncated; `length` is that of the original."""

    text: str
    length: int
    is_json: bool

    def is_truncated(self, limit: int) -> bool:
        return self.length > limit or len(self.text) > limit

    def truncate(self, limit: int) -> object:
        """At most `limit` characters of the text, or its value if all of it fits."""
        if self.is_truncated(limit):
            kept = self.text[:limit]
            return f"{kept}…[truncated {max(self.length - len(kept), 0)} chars]"
        return _parse_or_keep(self.text) if self.is_json else self.text


class ContentCapture:
    """Writes content to spans, at most `limit` characters in an attribute."""

    def __init__(self, limit: int, redactor: Redactor) -> None:
        self._limit = limit
        self._redactor = redactor

    def record_conversation(self, span: Span, messages: Sequence[msg.Message]) -> None:
        """The system prompt, and as many of the newest messages as fit."""
        instructions = [item for item in messages if isinstance(item, msg.InstructionMessage)]
        turns = [item for item in messages if not isinstance(item, msg.InstructionMessage)]
        newest = turns[-max(self._limit // MIN_MESSAGE_CHARACTERS, 1) :]
        conversation: list[Part] = [
            {"role": ROLES[type(item)], "parts": [self._part(part) for part in item.contents]}
            for item in newest
        ]
        is_partial = len(newest) < len(turns)
        self._write(span, semconv.INPUT_MESSAGES, conversation, is_truncated=is_partial)
        system = [
            self._text_part(text)
            for message in instructions
            for text in (message.stable, message.volatile)
            if text
        ]
        if system:
            self._write(span, semconv.SYSTEM_INSTRUCTIONS, system)

    def record_generation(self, span: Span, generation: Generation) -> None:
        parts = [self._text_part(part.thinking, "reasoning") for part in generation.thinking]
        if generation.text:
            parts.append(self._text_part(generation.text))
        parts += [self._part(part) for part in (*generation.media, *generation.tool_calls)]
        self._write_output(span, parts, semconv.finish_reason(generation.finish_reason))

    def record_answer(self, span: Span, text: str) -> None:
        self._write_output(span, [self._text_part(text)], "stop")

    def record_arguments(self, span: Span, call: msg.ToolCall) -> None:
        arguments = self._text(_dumps(call.args), is_json=True)
        text_limit, is_truncated = self._fit([{"value": arguments}])
        span.set_attribute(semconv.TOOL_CALL_ARGUMENTS, _render(arguments, text_limit))
        if is_truncated:
            _mark_truncated(span)

    def record_result(self, span: Span, result: msg.ToolResult) -> None:
        parts = [self._part(part) for part in result.result]
        self._write(span, semconv.TOOL_CALL_RESULT, parts)

    def _write_output(self, span: Span, parts: list[Part], reason: str) -> None:
        message = {"role": "assistant", "parts": parts, "finish_reason": reason}
        self._write(span, semconv.OUTPUT_MESSAGES, [message])

    def _write(
        self, span: Span, name: str, document: list[Part], *, is_truncated: bool = False
    ) -> None:
        text_limit, has_truncated_text = self._fit(document)
        text = _render(document, text_limit)
        span.set_attribute(name, text if len(text) <= self._limit else "[]")
        if is_truncated or has_truncated_text:
            _mark_truncated(span)

    def _fit(self, document: list[Part]) -> tuple[int, bool]:
        """Characters of each text at which the document fits, and whether one has more.

        The longest texts are truncated first.
        """
        texts: list[_Text] = []

        def collect(text: _Text) -> object:
            texts.append(text)
            return text.truncate(0)

        text_limit, shortest = self._limit, len(_dumps(document, collect))
        if sum(len(text.text) for text in texts) > self._limit:
            text_limit = _fill_evenly([len(text.text) for text in texts], self._limit - shortest)
        while text_limit > 0 and (length := len(_render(document, text_limit))) > self._limit:
            # Escaping lengthens text, so the limit is lowered until the document fits.
            text_limit = text_limit * self._limit // length * 9 // 10
        return text_limit, any(text.is_truncated(text_limit) for text in texts)

    def _part(
        self, part: msg.UserPart | msg.ResultPart | msg.ExpertPart | msg.ToolResultPart
    ) -> Part:
        match part:
            case msg.TextPart():
                return self._text_part(part.text)
            case msg.ThinkingPart():
                return self._text_part(part.thinking, "reasoning")
            case msg.ToolCallPart():
                return self._tool_call_part(part)
            case msg.ProviderPart():
                return {"type": "server_tool_calls", "tools": list(part.tools)}
            case msg.ToolResultPart():
                return self._response_part(part)
            case msg.ImageUrlPart() | msg.FileUrlPart():
                return {"type": "uri", "mime_type": part.mime_type, "uri": self._text(part.url)}
            case msg.ImageInlinePart() | msg.FileInlinePart():
                return _blob_part(part.mime_type, part.encoded_data)
            case msg.ImageBinaryPart() | msg.FileBinaryPart():
                return _blob_part(part.mime_type, part.data)

    def _tool_call_part(self, call: msg.ToolCallPart) -> Part:
        arguments = self._text(_dumps(call.args), is_json=True)
        return {
            "type": "tool_call",
            "id": call.tool_call_id,
            "name": call.tool_name,
            "arguments": arguments,
        }

    def _response_part(self, result: msg.ToolResultPart) -> Part:
        if len(result.contents) == 1 and isinstance(only := result.contents[0], msg.TextPart):
            response = self._text(only.text)
        else:
            response = [self._part(item) for item in result.contents]
        return {"type": "tool_call_response", "id": result.tool_call_id, "response": response}

    def _text_part(self, text: str, kind: str = "text") -> Part:
        return {"type": kind, "content": self._text(text)}

    def _text(self, text: str, *, is_json: bool = False) -> _Text:
        redacted = self._redactor.redact_prefix(text, self._limit + 1)
        return _Text(redacted, len(text), is_json)


def _mark_truncated(span: Span) -> None:
    span.set_attribute(semconv.CONTENT_TRUNCATED, True)  # noqa: FBT003 - the API's own signature


def _fill_evenly(lengths: list[int], available: int) -> int:
    """The largest limit at which texts of these lengths fit together (water-filling)."""
    share = 0
    for index, length in enumerate(sorted(lengths)):
        share = max(available, 0) // (len(lengths) - index)
        if length > share:
            break
        available -= length
    return share


def _blob_part(mime_type: str, encoded: str) -> Part:
    size = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    return {"type": "blob", "mime_type": mime_type, "size": size}


def _parse_or_keep(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        # Redacting a number leaves invalid JSON.
        return text


def _render(document: object, text_limit: int) -> str:
    return _dumps(document, lambda text: text.truncate(text_limit))


def _dumps(value: object, default: Callable[[Any], object] = str) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=default)
