"""Amazon Bedrock's Converse: blocks named by their key, cache points between them."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal
from urllib.parse import quote

from perstack.core.media import DOCUMENT_TYPES
from perstack.core.messages import FinishReason, Usage
from perstack.llm.messages import (
    REDACTED_THINKING,
    Block,
    ChatMessage,
    can_think,
    chat_messages,
    chat_tools,
)
from perstack.llm.providers.connection import ProviderConnection
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

FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "toolCalls",
    "max_tokens": "length",
    "guardrail_intervened": "contentFilter",
    "content_filtered": "contentFilter",
}
"""The good ends. Any other one means that the reply is not whole."""

EXCEPTION_STATUSES = {
    "validationException": 400,
    "accessDeniedException": 403,
    "resourceNotFoundException": 404,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "modelErrorException": 424,
    "modelNotReadyException": 429,
    "throttlingException": 429,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
}
EMPTY_RESULT = "[no output]"
"""Stands for a text without characters, which is refused."""

CACHE_POINT: Block = {"cachePoint": {"type": "default"}}
_PDF = "pdf"


class BedrockConverse:
    """Satisfies `WireFormat`."""

    stream_content: Literal["frames"] = "frames"

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        method = "converse-stream" if is_stream else "converse"
        return f"{connection.base_url}/model/{quote(connection.model, safe='')}/{method}"

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        del is_stream
        choice, profile = request.choice, connection.profile
        system, messages = to_converse(chat_messages(request.messages, profile))
        body: JsonObject = {"messages": messages}
        if system:
            body["system"] = system
        if max_output := choice.facts.max_output:
            body["inferenceConfig"] = {"maxTokens": max_output}
        options = profile.reasoning_options(choice.reasoning_budget, choice.model)
        if options and (can_think(request.messages) or not profile.has_signed_thinking):
            body["additionalModelRequestFields"] = options
        functions = [tool["function"] for tool in chat_tools(request.tools)]
        if tools := [_tool(each) for each in functions] or called_tools(messages):
            body["toolConfig"] = {"tools": [{"toolSpec": tool} for tool in tools]}
        return body

    def reader(self, builder: ReplyBuilder) -> "BedrockConverseReader":
        return BedrockConverseReader(builder)


def _tool(function: JsonObject) -> JsonObject:
    description = function["description"]
    return {
        "name": function["name"],
        **({"description": description} if description else {}),
        "inputSchema": {"json": function["parameters"]},
    }


def called_tools(turns: Iterable[JsonObject]) -> list[JsonObject]:
    """The tools that a history calls, by their names; it is refused where there are none at all."""
    calls = (block.get("toolUse") for turn in turns for block in turn["content"])
    names = dict.fromkeys(call["name"] for call in calls if call)
    return [{"name": name, "inputSchema": {"json": {"type": "object"}}} for name in names]


def to_converse(chat: Iterable[ChatMessage]) -> tuple[list[Block], list[JsonObject]]:
    """The system blocks and the turns of a conversation in chat form."""
    blocks = _Blocks()
    system: list[Block] = []
    turns: list[JsonObject] = []
    for message in chat:
        role = message["role"]
        content = list(blocks.of(message))
        if role == "system":
            system += content
            continue
        turn_role = "assistant" if role == "assistant" else "user"
        if turns and turns[-1]["role"] == turn_role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": turn_role, "content": content})
    return system, turns


class _Blocks:
    """Makes blocks. Documents are numbered, because no two may have one name."""

    def __init__(self) -> None:
        self._document_count = 0

    def of(self, message: ChatMessage) -> Iterator[Block]:
        for block in message.get("thinking_blocks", ()):
            yield {"reasoningContent": _reasoning(block)}
        if message["role"] == "tool":
            yield from self._result(message)
        else:
            yield from self._content(message["content"])
        for call in message.get("tool_calls", ()):
            function = call["function"]
            arguments, _ = parse_arguments(function["arguments"])
            tool_use = {"toolUseId": call["id"], "name": function["name"], "input": arguments}
            yield {"toolUse": tool_use}

    def _result(self, message: ChatMessage) -> Iterator[Block]:
        content = list(self._content(message["content"])) or [{"text": EMPTY_RESULT}]
        yield {"toolResult": {"toolUseId": message["tool_call_id"], "content": content}}
        if "cache_control" in message and not _refuses_cache_point(content[-1]):
            yield CACHE_POINT

    def _content(self, content: object) -> Iterator[Block]:
        """Content as blocks; empty texts, which are refused, are left out."""
        chat_blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for chat_block in map(object_or_empty, list_or_empty(chat_blocks)):
            block = self._block(chat_block)
            if "text" in block and not block["text"].strip():
                continue
            yield block
            if "cache_control" in chat_block and not _refuses_cache_point(block):
                yield CACHE_POINT

    def _block(self, block: Block) -> Block:
        match block["type"]:
            case "image_url":
                mime_type, data = _split_data_url(block["image_url"]["url"])
                name = mime_type.removeprefix("image/").replace("jpg", "jpeg")
                return {"image": {"format": name, "source": {"bytes": data}}}
            case "file":
                return self._document(*_split_data_url(block["file"]["file_data"]))
            case _:
                return {"text": block["text"]}

    def _document(self, mime_type: str, data: str) -> Block:
        if mime_type not in DOCUMENT_TYPES:
            return {"text": f"[a file of type {mime_type}, which models here cannot be shown]"}
        self._document_count += 1
        return {
            "document": {
                "format": DOCUMENT_TYPES[mime_type],
                "name": f"document {self._document_count}",
                "source": {"bytes": data},
            }
        }


def _reasoning(block: Block) -> JsonObject:
    if block["type"] == "redacted_thinking":
        return {"redactedContent": block["data"]}
    return {"reasoningText": {"text": block["thinking"], "signature": block["signature"]}}


def _refuses_cache_point(block: Block) -> bool:
    """Whether a block is a document of a kind that no cache point may follow."""
    return "document" in block and block["document"]["format"] != _PDF


def _split_data_url(url: str) -> tuple[str, str]:
    head, _, data = url.partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), data


class BedrockConverseReader:
    """Satisfies `ReplyReader`. A payload is an event under its type."""

    def __init__(self, builder: ReplyBuilder) -> None:
        self._builder = builder
        self._thinking_index: object = None

    def add(self, payload: bytes) -> bool:
        kind, value = next(iter(parse_payload(payload).items()), ("", None))
        event = object_or_empty(value)
        index = event.get("contentBlockIndex")
        match kind:
            case "messageStart" | "contentBlockStop":
                pass
            case "contentBlockStart":
                call = object_or_empty(object_or_empty(event.get("start")).get("toolUse"))
                if call:
                    self._add_call(call, index)
            case "contentBlockDelta":
                self._add_delta(object_or_empty(event.get("delta")), index)
            case "messageStop":
                self._finish(event.get("stopReason"))
            case "metadata":
                self._builder.add_usage(_parse_usage(event.get("usage")))
                return True
            case _:
                _raise_exception(kind, event)
        return False

    def add_whole(self, document: JsonObject) -> None:
        builder = self._builder
        message = object_or_empty(object_or_empty(document.get("output")).get("message"))
        for index, item in enumerate(list_or_empty(message.get("content"))):
            block = object_or_empty(item)
            if "toolUse" in block:
                call = object_or_empty(block["toolUse"])
                builder.start_call(
                    call.get("input"), call_id=call.get("toolUseId"), name=call.get("name")
                )
            elif "reasoningContent" in block:
                reasoning = object_or_empty(block["reasoningContent"])
                text = object_or_empty(reasoning.get("reasoningText"))
                self._add_reasoning({**reasoning, **text}, index)
            else:
                builder.add_text(block.get("text"))
        builder.add_usage(_parse_usage(document.get("usage")))
        self._finish(document.get("stopReason"))

    def _add_call(self, call: JsonObject, index: object) -> None:
        self._builder.add_call(
            call.get("input"), index=index, call_id=call.get("toolUseId"), name=call.get("name")
        )

    def _add_delta(self, delta: JsonObject, index: object) -> None:
        if "toolUse" in delta:
            self._add_call(object_or_empty(delta["toolUse"]), index)
        elif "reasoningContent" in delta:
            self._add_reasoning(object_or_empty(delta["reasoningContent"]), index)
        else:
            self._builder.add_text(delta.get("text"))

    def _add_reasoning(self, reasoning: JsonObject, index: object) -> None:
        builder = self._builder
        if index != self._thinking_index:
            self._thinking_index = index
            builder.start_thinking()
        builder.add_thinking(reasoning.get("text"))
        if signature := text_or_empty(reasoning.get("signature")):
            builder.add_signature(signature)
        if redacted := text_or_empty(reasoning.get("redactedContent")):
            builder.add_signature(f"{REDACTED_THINKING}{redacted}")

    def _finish(self, stop_reason: object) -> None:
        self._builder.finish_reason = finish_reason(stop_reason, FINISH_REASONS)


def _parse_usage(counts: object) -> Usage:
    """Token counts; those of the cache are not in the input here."""
    return usage_beside_cache(
        uncached=token_count(counts, "inputTokens"),
        cached=token_count(counts, "cacheReadInputTokens"),
        created=token_count(counts, "cacheWriteInputTokens"),
        output=token_count(counts, "outputTokens"),
    )


def _raise_exception(kind: str, event: JsonObject) -> None:
    """Raise what an event reports, if it is a failure. Later versions add events of other kinds."""
    name = re.sub(r"^\w", lambda first: first[0].lower(), kind)
    status = EXCEPTION_STATUSES.get(name)
    if status is None and not kind.lower().endswith(("exception", "error")):
        return
    message: Any = event.get("originalMessage") or event.get("message")
    raise StreamError(text_or_empty(message) or kind, status)
