"""OpenAI's Chat Completions, as OpenAI and many compatible servers speak it."""

from typing import Any, Literal

from perstack.core.messages import FinishReason, Usage
from perstack.llm.messages import chat_tools, shared_chat_messages
from perstack.llm.providers.connection import ProviderConnection
from perstack.llm.wire.format import StreamError
from perstack.llm.wire.reply import (
    InvalidReplyError,
    JsonObject,
    ReplyBuilder,
    list_or_empty,
    object_or_empty,
    parse_payload,
    text_or_empty,
    token_count,
)
from perstack.runtime.ports import GenerationRequest

END_PAYLOAD = b"[DONE]"
FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "end_turn": "stop",
    "eos": "stop",
    "tool_calls": "toolCalls",
    "function_call": "toolCalls",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "contentFilter",
    "refusal": "contentFilter",
}
"""The good ends. Any other one means that the reply is not whole."""

_REASONING_FIELDS = ("reasoning_content", "reasoning")


class ChatCompletions:
    """Satisfies `WireFormat`."""

    stream_content: Literal["events"] = "events"

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        del is_stream
        return f"{connection.base_url}{connection.chat_path}"

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        choice, profile = request.choice, connection.profile
        body: JsonObject = {
            "model": choice.model,
            "messages": shared_chat_messages(request.messages, profile),
            **profile.reasoning_options(choice.reasoning_budget, choice.model),
        }
        if request.tools:
            body["tools"] = chat_tools(request.tools)
        if is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    def reader(self, builder: ReplyBuilder) -> "ChatCompletionsReader":
        return ChatCompletionsReader(builder)


class ChatCompletionsReader:
    """Satisfies `ReplyReader`."""

    def __init__(self, builder: ReplyBuilder) -> None:
        self._builder = builder
        self._has_blank_finish = False

    def add(self, payload: bytes) -> bool:
        if payload.strip() == END_PAYLOAD:
            if self._has_blank_finish and self._builder.finish_reason is None:
                self._builder.finish_reason = "stop"
            return True
        chunk = parse_payload(payload)
        self._add_document(chunk, "delta")
        return False

    def add_whole(self, document: JsonObject) -> None:
        self._add_document(document, "message")
        if not list_or_empty(document.get("choices")):
            raise InvalidReplyError("it has no choices")
        if self._builder.finish_reason is None and self._has_blank_finish:
            self._builder.finish_reason = "stop"

    def _add_document(self, document: JsonObject, content_key: str) -> None:
        raise_reported_error(document)
        builder = self._builder
        builder.response_id = builder.response_id or text_or_empty(document.get("id")) or None
        builder.response_model = (
            builder.response_model or text_or_empty(document.get("model")) or None
        )
        if document.get("usage") is not None:
            builder.add_usage(parse_usage(document["usage"]))
        # Only one reply is asked for; some servers announce its usage with an empty list.
        for choice in list_or_empty(document.get("choices"))[:1]:
            self._add_message(object_or_empty(object_or_empty(choice).get(content_key)))
            self._add_finish(object_or_empty(choice).get("finish_reason"))

    def _add_message(self, message: JsonObject) -> None:
        builder = self._builder
        for name in _REASONING_FIELDS:
            if isinstance(message.get(name), str):
                builder.add_thinking(message[name])
                break
        content: Any = message.get("content")
        builder.add_text(content, has_think_tags=True)
        for part in list_or_empty(content):
            self._add_part(object_or_empty(part))
        builder.add_text(message.get("refusal"))
        for call in list_or_empty(message.get("tool_calls")):
            self._add_call(object_or_empty(call))

    def _add_part(self, part: JsonObject) -> None:
        match part.get("type"):
            case "thinking":
                thinking: object = part.get("thinking")
                pieces = list_or_empty(thinking) or [{"text": thinking}]
                for piece in pieces:
                    self._builder.add_thinking(object_or_empty(piece).get("text"))
            case "refusal":
                self._builder.add_text(part.get("refusal"))
            case _:
                self._builder.add_text(part.get("text"))

    def _add_call(self, call: JsonObject) -> None:
        function = object_or_empty(call.get("function"))
        self._builder.add_call(
            function.get("arguments"),
            index=call.get("index"),
            call_id=call.get("id"),
            name=function.get("name"),
        )

    def _add_finish(self, reason: object) -> None:
        if reason is None:
            return
        if not reason:
            self._has_blank_finish = True
            return
        finish_reason = FINISH_REASONS.get(str(reason))
        if finish_reason is None:
            raise InvalidReplyError(f"it ended with {str(reason)[:60]!r}")
        self._builder.finish_reason = finish_reason


def parse_usage(counts: object) -> Usage:
    """Token counts; those that the provider omits are 0."""
    usage = object_or_empty(counts)
    prompt: Any = usage.get("prompt_tokens_details")
    completion: Any = usage.get("completion_tokens_details")
    input_tokens, output_tokens = (
        token_count(usage, "prompt_tokens"),
        token_count(usage, "completion_tokens"),
    )
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=token_count(completion, "reasoning_tokens"),
        total_tokens=token_count(usage, "total_tokens") or input_tokens + output_tokens,
        cached_input_tokens=token_count(prompt, "cached_tokens"),
    )


def raise_reported_error(document: JsonObject) -> None:
    """Raise what a document with a success status reports as an error.

    Raises:
        StreamError: It does.
    """
    error: object = document.get("error")
    if not error:
        return
    details = object_or_empty(error)
    message = text_or_empty(details.get("message")) or str(error)
    code: object = details.get("code") or details.get("status")
    is_status = isinstance(code, int) or (isinstance(code, str) and code.isdigit())
    raise StreamError(message, int(str(code)) if is_status else None)
