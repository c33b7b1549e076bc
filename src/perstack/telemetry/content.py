"""Content of conversations as JSON in span attributes: opt-in, bounded and redacted.

Binary data is never included.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.trace import Span

from perstack.core import messages as msg
from perstack.redaction import Redactor
from perstack.runtime.ports import Generation
from perstack.telemetry import semconv

DEFAULT_CONTENT_LIMIT = 16_384
MIN_MESSAGE_CHARACTERS = 128
"""Size of the JSON of a message whose text is truncated to almost nothing."""

UserPart = msg.UserPart | msg.ResultPart
Part = dict[str, Any]


@dataclass(slots=True)
class _TextSlot:
    """A text of a document that may be truncated; `length` is that of the original."""

    part: Part
    key: str
    text: str
    length: int
    is_json: bool

    def fill(self, cap: int) -> bool:
        """Insert at most `cap` characters of the text; returns whether it was truncated."""
        if self.length <= cap and len(self.text) <= cap:
            self.part[self.key] = _parse_or_keep(self.text) if self.is_json else self.text
            return False
        kept = self.text[:cap]
        self.part[self.key] = f"{kept}…[truncated {max(self.length - len(kept), 0)} chars]"
        return True


@dataclass(slots=True)
class _Document:
    """A JSON list with texts that may be truncated."""

    items: list[Part] = field(default_factory=list[Part])
    slots: list[_TextSlot] = field(default_factory=list[_TextSlot])
    is_truncated: bool = False

    def render(self, limit: int) -> str:
        """The document in at most `limit` characters; the longest texts are truncated first."""
        is_long = sum(len(slot.text) for slot in self.slots) > limit
        text_limit = self._fitting_text_limit(limit) if is_long else limit
        text = self._render_with(text_limit)
        while len(text) > limit and text_limit > 0:
            # Escaping lengthens text, so the limit is lowered until the document fits.
            text_limit = text_limit * limit // len(text) * 9 // 10
            text = self._render_with(text_limit)
        return text if len(text) <= limit else "[]"

    def _render_with(self, text_limit: int) -> str:
        cuts = [slot.fill(text_limit) for slot in self.slots]
        self.is_truncated = self.is_truncated or any(cuts)
        return _dumps(self.items)

    def _fitting_text_limit(self, limit: int) -> int:
        """Largest limit for each text at which all of them fit (water-filling)."""
        lengths = sorted(len(slot.text) for slot in self.slots)
        remaining = limit - len(self._render_with(0))
        for index, length in enumerate(lengths):
            share = max(remaining, 0) // (len(lengths) - index)
            if length > share:
                return share
            remaining -= length
        return limit


class ContentCapture:
    """Writes content to spans.

    Args:
        limit: Characters of one attribute.
        redactor: Removes secrets.
    """

    def __init__(self, limit: int, redactor: Redactor) -> None:
        self._limit = limit
        self._redactor = redactor

    def record_conversation(self, span: Span, messages: Sequence[msg.Message]) -> None:
        """The system prompt, and as many of the newest messages as fit."""
        turns = [item for item in messages if not isinstance(item, msg.InstructionMessage)]
        newest = turns[-max(self._limit // MIN_MESSAGE_CHARACTERS, 1) :]
        document = _Document(is_truncated=len(newest) < len(turns))
        for message in newest:
            self._add_message(document, message)
        self._write_document(span, semconv.INPUT_MESSAGES, document)
        system = _Document()
        for message in messages:
            if isinstance(message, msg.InstructionMessage):
                system.items += [
                    self._text_part(system, text)
                    for text in (message.stable, message.volatile)
                    if text
                ]
        if system.items:
            self._write_document(span, semconv.SYSTEM_INSTRUCTIONS, system)

    def record_generation(self, span: Span, generation: Generation) -> None:
        document = _Document()
        parts: list[Part] = [
            self._text_part(document, part.thinking, "reasoning") for part in generation.thinking
        ]
        if generation.text:
            parts.append(self._text_part(document, generation.text))
        parts += [self._tool_call_part(document, call) for call in generation.tool_calls]
        reason = semconv.finish_reason(generation.finish_reason)
        document.items.append({"role": "assistant", "parts": parts, "finish_reason": reason})
        self._write_document(span, semconv.OUTPUT_MESSAGES, document)

    def record_answer(self, span: Span, text: str) -> None:
        document = _Document()
        part = self._text_part(document, text)
        document.items.append({"role": "assistant", "parts": [part], "finish_reason": "stop"})
        self._write_document(span, semconv.OUTPUT_MESSAGES, document)

    def record_arguments(self, span: Span, call: msg.ToolCall) -> None:
        holder: Part = {}
        document = _Document([holder])
        self._add_slot(document, holder, "value", _dumps(call.args), is_json=True)
        document.render(self._limit)
        self._set_attribute(span, semconv.TOOL_CALL_ARGUMENTS, _dumps(holder["value"]), document)

    def record_result(self, span: Span, result: msg.ToolResult) -> None:
        document = _Document()
        document.items = [self._user_part(document, part) for part in result.result]
        self._write_document(span, semconv.TOOL_CALL_RESULT, document)

    def _write_document(self, span: Span, name: str, document: _Document) -> None:
        self._set_attribute(span, name, document.render(self._limit), document)

    def _set_attribute(self, span: Span, name: str, text: str, document: _Document) -> None:
        span.set_attribute(name, text)
        if document.is_truncated:
            span.set_attribute(semconv.CONTENT_TRUNCATED, True)  # noqa: FBT003 - the API's own signature

    def _add_message(self, document: _Document, message: msg.Message) -> None:
        match message:
            case msg.UserMessage():
                role = "user"
                parts = [self._user_part(document, part) for part in message.contents]
            case msg.ExpertMessage():
                role = "assistant"
                parts = [self._expert_part(document, part) for part in message.contents]
            case msg.ToolMessage():
                role = "tool"
                parts = [self._tool_response_part(document, part) for part in message.contents]
            case msg.InstructionMessage():
                return
        document.items.append({"role": role, "parts": parts})

    def _user_part(self, document: _Document, part: UserPart) -> Part:
        match part:
            case msg.TextPart():
                return self._text_part(document, part.text)
            case msg.ImageUrlPart() | msg.FileUrlPart():
                uri_part: Part = {"type": "uri", "mime_type": part.mime_type}
                self._add_slot(document, uri_part, "uri", part.url)
                return uri_part
            case msg.ImageInlinePart() | msg.FileInlinePart():
                return _blob_part(part.mime_type, part.encoded_data)
            case msg.ImageBinaryPart() | msg.FileBinaryPart():
                return _blob_part(part.mime_type, part.data)

    def _expert_part(self, document: _Document, part: msg.ExpertPart) -> Part:
        match part:
            case msg.TextPart():
                return self._text_part(document, part.text)
            case msg.ThinkingPart():
                return self._text_part(document, part.thinking, "reasoning")
            case msg.ToolCallPart():
                return self._tool_call_part(document, part)

    def _tool_call_part(self, document: _Document, call: msg.ToolCallPart) -> Part:
        part: Part = {"type": "tool_call", "id": call.tool_call_id, "name": call.tool_name}
        self._add_slot(document, part, "arguments", _dumps(call.args), is_json=True)
        return part

    def _tool_response_part(self, document: _Document, result: msg.ToolResultPart) -> Part:
        part: Part = {"type": "tool_call_response", "id": result.tool_call_id}
        if len(result.contents) == 1 and isinstance(only := result.contents[0], msg.TextPart):
            self._add_slot(document, part, "response", only.text)
        else:
            part["response"] = [self._user_part(document, item) for item in result.contents]
        return part

    def _text_part(self, document: _Document, text: str, kind: str = "text") -> Part:
        part: Part = {"type": kind}
        self._add_slot(document, part, "content", text)
        return part

    def _add_slot(
        self, document: _Document, part: Part, key: str, text: str, *, is_json: bool = False
    ) -> None:
        redacted = self._redactor.redact_prefix(text, self._limit + 1)
        document.slots.append(_TextSlot(part, key, redacted, len(text), is_json))


def _blob_part(mime_type: str, encoded: str) -> Part:
    size = len(encoded) * 3 // 4 - encoded[-2:].count("=")
    return {"type": "blob", "mime_type": mime_type, "size": size}


def _parse_or_keep(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        # Redacting a number leaves invalid JSON.
        return text


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
