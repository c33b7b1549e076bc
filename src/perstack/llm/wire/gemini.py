"""Google's generateContent: parts of contents, calls without ids, signatures of thoughts."""

import re
from collections.abc import Sequence
from typing import Any, Literal, cast
from urllib.parse import quote

from perstack.core.messages import FinishReason, Usage
from perstack.llm.messages import (
    GOOGLE_SIGNATURE,
    Block,
    ChatMessage,
    chat_tools,
    provider_chat_messages,
    signatures_by_call,
)
from perstack.llm.providers.connection import ProviderConnection
from perstack.llm.wire.format import StreamError
from perstack.llm.wire.gemini_parts import ProviderParts
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

FINISH_REASONS: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "contentFilter",
    "RECITATION": "contentFilter",
    "BLOCKLIST": "contentFilter",
    "PROHIBITED_CONTENT": "contentFilter",
    "SPII": "contentFilter",
}
"""The good ends, and those that withhold the reply. Any other one means that it is not whole."""


FOREIGN_SIGNATURE = "skip_thought_signature_validator"
"""What Google takes for the signature of a call that none of its models has made."""

_SIGNED_MODELS = re.compile(r"gemini-([3-9]|[1-9]\d)")
"""They refuse calls without a signature; older models do not look."""


class Gemini:
    """Satisfies `WireFormat`."""

    stream_content: Literal["events"] = "events"

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        method = "streamGenerateContent?alt=sse" if is_stream else "generateContent"
        return f"{connection.base_url}/models/{quote(connection.model, safe='')}:{method}"

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        del is_stream
        choice, profile = request.choice, connection.profile
        chat = provider_chat_messages(request.messages, profile)
        system = "\n\n".join(each["content"] for each in chat if each["role"] == "system")
        signatures = signatures_by_call(request.messages, GOOGLE_SIGNATURE)
        if _SIGNED_MODELS.match(choice.model):
            signatures = {**_foreign_signatures(chat), **signatures}
        body: JsonObject = {"contents": _contents(chat, signatures)}
        if system:
            body["systemInstruction"] = {"parts": [{"text": system}]}
        functions = [_function(tool["function"]) for tool in chat_tools(request.tools)]
        provider_tools = profile.provider_tool_bodies(request.provider_tools, choice.model)
        declarations = [{"functionDeclarations": functions}] if functions else []
        if tools := [*declarations, *provider_tools]:
            body["tools"] = tools
        if functions and provider_tools:
            body |= profile.mixed_tool_options
        if options := profile.reasoning_options(choice.reasoning_budget, choice.model):
            body["generationConfig"] = options
        return body

    def reader(self, builder: ReplyBuilder) -> "GeminiReader":
        return GeminiReader(builder)


def _function(function: JsonObject) -> JsonObject:
    return {
        "name": function["name"],
        "description": function["description"],
        "parametersJsonSchema": function["parameters"],
    }


def _foreign_signatures(chat: Sequence[ChatMessage]) -> dict[str, str]:
    """What stands in for the signature of each turn, if another model has called the tools."""
    turns = (message["tool_calls"] for message in chat if message.get("tool_calls"))
    return {calls[0]["id"]: FOREIGN_SIGNATURE for calls in turns}


def _contents(chat: Sequence[ChatMessage], signatures: dict[str, str]) -> list[JsonObject]:
    contents: list[JsonObject] = []
    calls: dict[str, JsonObject] = {}
    for message in chat:
        match message["role"]:
            case "system":
                continue
            case "tool":
                parts = [_result_part(calls.get(message["tool_call_id"], {}), message["content"])]
            case _ if "parts" in message.get("provider_content", ()):
                parts = _provider_parts(message)
                made = [part["functionCall"] for part in parts if "functionCall" in part]
                ids = [call["id"] for call in message.get("tool_calls", ())]
                calls |= zip(ids, made, strict=False)
            case _:
                parts = _content_parts(message["content"])
                for call in message.get("tool_calls", ()):
                    calls[call["id"]] = {"name": call["function"]["name"]}
                    parts.append(_call_part(call, signatures.get(call["id"])))
        role = "model" if message["role"] == "assistant" else "user"
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        elif parts:
            contents.append({"role": role, "parts": parts})
    return contents


def _provider_parts(message: ChatMessage) -> list[JsonObject]:
    """The parts of a reply as they were, with its images."""
    media = iter(message["media"])
    parts: list[JsonObject] = []
    for part in message["provider_content"]["parts"]:
        if "inlineData" not in part:
            parts.append(part)
        elif (data := next(media, None)) is not None:
            parts.append({**part, "inlineData": {**part["inlineData"], "data": data}})
    return parts


def _result_part(call: JsonObject, content: object) -> JsonObject:
    """The result of a call, which is named by the id that the model gave it, if it did."""
    named = {"id": call["id"]} if "id" in call else {}
    name = call.get("name", "unknown")
    return {"functionResponse": {**named, "name": name, "response": {"output": content}}}


def _call_part(call: JsonObject, signature: str | None) -> JsonObject:
    function = call["function"]
    arguments, _ = parse_arguments(function["arguments"])
    part: JsonObject = {"functionCall": {"name": function["name"], "args": arguments}}
    return part if signature is None else {**part, "thoughtSignature": signature}


def _content_parts(content: object) -> list[JsonObject]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [_part(cast("Block", block)) for block in list_or_empty(content)]


def _part(block: Block) -> JsonObject:
    if block["type"] == "text":
        return {"text": block["text"]}
    url: str = block["image_url"]["url"] if block["type"] == "image_url" else ""
    head, _, data = (url or block["file"]["file_data"]).partition(",")
    mime_type = head.removeprefix("data:").removesuffix(";base64")
    return {"inlineData": {"mimeType": mime_type, "data": data}}


class GeminiReader:
    """Satisfies `ReplyReader`."""

    def __init__(self, builder: ReplyBuilder) -> None:
        self._builder = builder
        self._signature = ""
        self._parts = ProviderParts()

    def add(self, payload: bytes) -> bool:
        self.add_whole(parse_payload(payload))
        return False

    def add_whole(self, document: JsonObject) -> None:
        _raise_reported_error(document)
        builder = self._builder
        builder.response_id = text_or_empty(document.get("responseId")) or builder.response_id
        builder.response_model = (
            text_or_empty(document.get("modelVersion")) or builder.response_model
        )
        if "usageMetadata" in document:
            builder.add_usage(_parse_usage(document["usageMetadata"]))
        if object_or_empty(document.get("promptFeedback")).get("blockReason"):
            builder.finish_reason = "contentFilter"
        for candidate in list_or_empty(document.get("candidates"))[:1]:
            self._add_candidate(object_or_empty(candidate))

    def _add_candidate(self, candidate: JsonObject) -> None:
        content = object_or_empty(candidate.get("content"))
        for part in list_or_empty(content.get("parts")):
            self._add_part(object_or_empty(part))
        self._parts.add_metadata(candidate)
        reason: Any = candidate.get("finishReason")
        if reason:
            self._builder.finish_reason = FINISH_REASONS.get(str(reason))
            if self._builder.finish_reason is None:
                raise InvalidReplyError(f"it ended with {str(reason)[:60]!r}")
        self._parts.hand_over(self._builder)

    def _add_part(self, part: JsonObject) -> None:
        builder = self._builder
        self._parts.add(part, builder)
        if part.get("thought"):
            builder.add_thinking(part.get("text"))
        elif "functionCall" in part:
            call = object_or_empty(part["functionCall"])
            builder.start_call(call.get("args"), call_id=call.get("id"), name=call.get("name"))
        else:
            builder.add_text(part.get("text"))
        signature = text_or_empty(part.get("thoughtSignature"))
        if signature and not self._signature and "functionCall" in part:
            self._signature = signature
            builder.add_signature(f"{GOOGLE_SIGNATURE}{signature}")


def _parse_usage(counts: object) -> Usage:
    input_tokens = token_count(counts, "promptTokenCount")
    reasoning_tokens = token_count(counts, "thoughtsTokenCount")
    output_tokens = token_count(counts, "candidatesTokenCount") + reasoning_tokens
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning_tokens,
        total_tokens=token_count(counts, "totalTokenCount") or input_tokens + output_tokens,
        cached_input_tokens=token_count(counts, "cachedContentTokenCount"),
    )


def _raise_reported_error(document: JsonObject) -> None:
    error = object_or_empty(document.get("error"))
    if error:
        code: object = error.get("code")
        message = text_or_empty(error.get("message")) or "no reason given"
        raise StreamError(message, code if isinstance(code, int) else None)
