"""Ollama's own chat format: an object a line, arguments as objects, images apart from text."""

from typing import Any, Literal

from perstack.core.messages import FinishReason, Usage
from perstack.llm.messages import ChatMessage, chat_tools, shared_chat_messages
from perstack.llm.providers.connection import ProviderConnection
from perstack.llm.wire.chat_completions import raise_reported_error
from perstack.llm.wire.reply import (
    InvalidReplyError,
    JsonObject,
    ReplyBuilder,
    list_or_empty,
    object_or_empty,
    parse_arguments,
    parse_payload,
    text_or_empty,
    token_count,
)
from perstack.runtime.ports import GenerationRequest

FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
"""The good ends; `load` and `unload` say that nothing was generated."""


class OllamaChat:
    """Satisfies `WireFormat`."""

    stream_content: Literal["lines"] = "lines"

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        del is_stream
        return f"{connection.base_url}/api/chat"

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        choice, profile = request.choice, connection.profile
        body: JsonObject = {
            "model": choice.model,
            "messages": [
                _to_ollama(message) for message in shared_chat_messages(request.messages, profile)
            ],
            "stream": is_stream,
        }
        if profile.reasoning_options(choice.reasoning_budget, choice.model):
            body["think"] = True
        if request.tools:
            body["tools"] = chat_tools(request.tools)
        return body

    def reader(self, builder: ReplyBuilder) -> "OllamaChatReader":
        return OllamaChatReader(builder)


def _to_ollama(message: ChatMessage) -> JsonObject:
    content: Any = message["content"]
    converted: JsonObject = {"role": message["role"], "content": content or ""}
    if blocks := [object_or_empty(block) for block in list_or_empty(content)]:
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        urls = [block["image_url"]["url"] for block in blocks if block["type"] == "image_url"]
        converted["content"] = "\n".join(texts)
        converted["images"] = [url.partition(",")[2] for url in urls]
    if calls := message.get("tool_calls"):
        converted["tool_calls"] = [
            {
                "function": {
                    "name": call["function"]["name"],
                    "arguments": parse_arguments(call["function"]["arguments"])[0],
                }
            }
            for call in calls
        ]
    return converted


class OllamaChatReader:
    """Satisfies `ReplyReader`."""

    def __init__(self, builder: ReplyBuilder) -> None:
        self._builder = builder

    def add(self, payload: bytes) -> bool:
        line = parse_payload(payload)
        self.add_whole(line)
        return bool(line.get("done"))

    def add_whole(self, document: JsonObject) -> None:
        raise_reported_error(document)
        builder, message = self._builder, object_or_empty(document.get("message"))
        builder.response_model = text_or_empty(document.get("model")) or None
        builder.add_thinking(message.get("thinking"))
        builder.add_text(message.get("content"), has_think_tags=True)
        for call in list_or_empty(message.get("tool_calls")):
            function = object_or_empty(object_or_empty(call).get("function"))
            # Calls come whole, and one by one: each is another one.
            builder.start_call(
                function.get("arguments"), call_id=call.get("id"), name=function.get("name")
            )
        if document.get("done"):
            reason = document.get("done_reason") or "stop"
            builder.finish_reason = FINISH_REASONS.get(str(reason))
            builder.add_usage(_parse_usage(document))
            if builder.finish_reason is None:
                raise InvalidReplyError(f"it ended with {str(reason)[:60]!r}")


def _parse_usage(document: JsonObject) -> Usage:
    input_tokens = token_count(document, "prompt_eval_count")
    output_tokens = token_count(document, "eval_count")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        total_tokens=input_tokens + output_tokens,
    )
