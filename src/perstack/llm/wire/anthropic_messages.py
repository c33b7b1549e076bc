"""Anthropic's Messages: system apart, results in the caller's turn, thinking with signatures."""

import json
from collections.abc import Iterable
from typing import Any, Literal

from perstack.core.messages import FinishReason, Usage
from perstack.definition.provider_tools import ProviderSkill, ProviderTools
from perstack.llm.messages import (
    REDACTED_THINKING,
    Block,
    ChatMessage,
    can_think,
    chat_tools,
    provider_chat_messages,
)
from perstack.llm.providers.connection import ProviderConnection
from perstack.llm.wire.anthropic_blocks import ProviderBlocks
from perstack.llm.wire.format import StreamError, finish_reason
from perstack.llm.wire.reply import (
    JsonObject,
    ReplyBuilder,
    list_or_empty,
    object_or_empty,
    parse_arguments,
    parse_payload,
    text_or_empty,
    token_count,
    usage_beside_cache,
)
from perstack.runtime.ports import GenerationRequest

DEFAULT_MAX_TOKENS = 32_000
"""For models whose limit is not known; the request must name one."""

FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "toolCalls",
    "max_tokens": "length",
    "refusal": "contentFilter",
    "pause_turn": "paused",
}
"""The good ends. Any other one means that the reply is not whole."""

ERROR_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicMessages:
    """Satisfies `WireFormat`."""

    stream_content: Literal["events"] = "events"

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        del is_stream
        return f"{connection.base_url}/v1/messages"

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        choice, profile = request.choice, connection.profile
        chat = provider_chat_messages(request.messages, profile)
        system, messages = to_anthropic(chat)
        body: JsonObject = {
            "model": choice.model,
            "max_tokens": choice.facts.max_output or DEFAULT_MAX_TOKENS,
            "messages": messages,
        }
        if system:
            body["system"] = system
        if can_think(request.messages):
            body |= profile.reasoning_options(choice.reasoning_budget, choice.model)
        own_tools = [_own_tool(tool["function"]) for tool in chat_tools(request.tools)]
        provider_tools = profile.provider_tool_bodies(request.provider_tools, choice.model)
        if tools := [*own_tools, *provider_tools]:
            body["tools"] = tools
        if (container := _container(request.provider_tools, chat)) is not None:
            body["container"] = container
        if is_stream:
            body["stream"] = True
        return body

    def reader(self, builder: ReplyBuilder) -> "AnthropicMessagesReader":
        return AnthropicMessagesReader(builder)


def _own_tool(function: JsonObject) -> JsonObject:
    return {
        "type": "custom",
        "name": function["name"],
        "description": function["description"],
        "input_schema": function["parameters"],
    }


def _skill(skill: ProviderSkill) -> JsonObject:
    if skill.type == "builtin":
        return {"type": "anthropic", "skill_id": skill.skill_id, "version": "latest"}
    definition = json.loads(skill.definition or "{}")
    return {"type": "custom", "skill_id": skill.name, "version": "latest", **definition}


def _container(tools: ProviderTools, chat: Iterable[ChatMessage]) -> JsonObject | str | None:
    """Where code is executed: in the container of the last reply that had one, with the skills."""
    if not tools:
        return None
    replies = (object_or_empty(message.get("provider_content")) for message in chat)
    containers = [reply["container"] for reply in replies if "container" in reply]
    known = {"id": containers[-1]["id"]} if containers else {}
    if not tools.skills:
        return known.get("id")
    return {**known, "skills": [_skill(skill) for skill in tools.skills]}


def to_anthropic(chat: Iterable[ChatMessage]) -> tuple[list[Block], list[JsonObject]]:
    """The system blocks and the turns of a conversation in chat form."""
    system: list[Block] = []
    turns: list[JsonObject] = []
    for message in chat:
        role = message["role"]
        if role == "system":
            system += _blocks(message["content"])
            continue
        blocks = _assistant_blocks(message) if role == "assistant" else _caller_blocks(message)
        turn_role = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == turn_role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": turn_role, "content": blocks})
    return system, turns


def _caller_blocks(message: ChatMessage) -> list[Block]:
    if message["role"] != "tool":
        return _blocks(message["content"])
    content: Any = message["content"]
    result: Block = {
        "type": "tool_result",
        "tool_use_id": message["tool_call_id"],
        "content": content if isinstance(content, str) else _blocks(content),
    }
    if "cache_control" in message:
        result["cache_control"] = message["cache_control"]
    return [result]


def _assistant_blocks(message: ChatMessage) -> list[Block]:
    if "content" in message.get("provider_content", ()):
        return _provider_blocks(message)
    blocks = list(message.get("thinking_blocks", ()))
    blocks += _blocks(message["content"])
    blocks += [
        {
            "type": "tool_use",
            "id": call["id"],
            "name": call["function"]["name"],
            "input": parse_arguments(call["function"]["arguments"])[0],
        }
        for call in message.get("tool_calls", ())
    ]
    return blocks


def _provider_blocks(message: ChatMessage) -> list[Block]:
    """A reply as it was; its calls have the ids that their results name."""
    ids = iter([call["id"] for call in message.get("tool_calls", ())])
    return [
        {**block, "id": next(ids, block.get("id"))} if block["type"] == "tool_use" else block
        for block in _blocks(message["provider_content"]["content"])
    ]


def _blocks(content: object) -> list[Block]:
    """Content as blocks; empty texts, which are refused, are left out."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content.strip() else []
    blocks = (_block(object_or_empty(block)) for block in list_or_empty(content))
    return [
        block for block in blocks if block["type"] != "text" or text_or_empty(block["text"]).strip()
    ]


def _block(block: Block) -> Block:
    mark = {"cache_control": block["cache_control"]} if "cache_control" in block else {}
    match block["type"]:
        case "image_url":
            return {"type": "image", "source": _source(block["image_url"]["url"]), **mark}
        case "file":
            file = block["file"]
            return {
                "type": "document",
                "source": _source(file.get("file_data") or file["file_id"]),
                **mark,
            }
        case _:
            return block


def _source(url: str) -> JsonObject:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, _, data = url.partition(",")
    media_type = head.removeprefix("data:").removesuffix(";base64")
    return {"type": "base64", "media_type": media_type, "data": data}


class AnthropicMessagesReader:
    """Satisfies `ReplyReader`."""

    def __init__(self, builder: ReplyBuilder) -> None:
        self._builder = builder
        self._blocks = ProviderBlocks()
        self._stop_reason: object = None

    def add(self, payload: bytes) -> bool:
        event = parse_payload(payload)
        _raise_reported_error(event)
        match event.get("type"):
            case "message_start":
                self._add_message(object_or_empty(event.get("message")))
            case "content_block_start":
                self._start_block(object_or_empty(event.get("content_block")), event.get("index"))
            case "content_block_delta":
                self._add_delta(object_or_empty(event.get("delta")), event.get("index"))
            case "message_delta":
                delta = object_or_empty(event.get("delta"))
                self._stop_reason = delta.get("stop_reason")
                self._blocks.set_container(delta.get("container"))
                self._builder.add_usage(parse_usage(event.get("usage")))
            case "message_stop":
                self._finish()
                return True
            case _:
                pass  # pings, ends of blocks, and what later versions add
        return False

    def add_whole(self, document: JsonObject) -> None:
        _raise_reported_error(document)
        self._add_message(document)
        self._stop_reason = document.get("stop_reason")
        self._finish()

    def _add_message(self, message: JsonObject) -> None:
        builder = self._builder
        builder.response_id = text_or_empty(message.get("id")) or None
        builder.response_model = text_or_empty(message.get("model")) or None
        builder.add_usage(parse_usage(message.get("usage")))
        self._blocks.set_container(message.get("container"))
        for index, block in enumerate(list_or_empty(message.get("content"))):
            self._start_block(object_or_empty(block), index)

    def _start_block(self, block: JsonObject, index: object) -> None:
        builder = self._builder
        self._blocks.start(block, index)
        match block.get("type"):
            case "text":
                builder.add_text(block.get("text"))
            case "thinking":
                builder.start_thinking()
                builder.add_thinking(block.get("thinking"))
                builder.add_signature(block.get("signature"))
            case "redacted_thinking":
                builder.start_thinking()
                builder.add_signature(f"{REDACTED_THINKING}{text_or_empty(block.get('data'))}")
            case "tool_use":
                arguments: object = block.get("input") or None
                builder.add_call(
                    arguments, index=index, call_id=block.get("id"), name=block.get("name")
                )
            case _:
                pass

    def _add_delta(self, delta: JsonObject, index: object) -> None:
        builder = self._builder
        kind = self._blocks.add_delta(delta, index)
        match delta.get("type"):
            case "text_delta":
                builder.add_text(delta.get("text"))
            case "thinking_delta":
                builder.add_thinking(delta.get("thinking"))
            case "signature_delta":
                builder.add_signature(delta.get("signature"))
            case "input_json_delta" if kind != "server_tool_use":
                builder.add_call(delta.get("partial_json"), index=index)
            case _:
                pass

    def _finish(self) -> None:
        self._builder.finish_reason = finish_reason(self._stop_reason, FINISH_REASONS)
        self._blocks.finish(self._builder)


def parse_usage(counts: object) -> Usage:
    """Token counts; cached ones are a part of the input."""
    return usage_beside_cache(
        uncached=token_count(counts, "input_tokens"),
        cached=token_count(counts, "cache_read_input_tokens"),
        created=token_count(counts, "cache_creation_input_tokens"),
        output=token_count(counts, "output_tokens"),
    )


def _raise_reported_error(event: JsonObject) -> None:
    if event.get("type") != "error" and "error" not in event:
        return
    error = object_or_empty(event.get("error"))
    kind = text_or_empty(error.get("type"))
    message = text_or_empty(error.get("message")) or kind or "no reason given"
    raise StreamError(message, ERROR_STATUSES.get(kind))
