"""OpenAI's Responses: items in and out, reasoning that goes back encrypted."""

import re
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Literal
from urllib.parse import quote

from perstack.core.messages import Citation, Usage
from perstack.llm.messages import (
    OPENAI_SIGNATURE,
    Block,
    ChatMessage,
    chat_tools,
    provider_chat_messages,
    signatures_by_call,
)
from perstack.llm.providers.connection import ProviderConnection
from perstack.llm.wire.chat_completions import raise_reported_error
from perstack.llm.wire.format import StreamError
from perstack.llm.wire.reply import (
    FileReference,
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
from perstack.text import replace_surrogates

_INCLUDED = {
    "web_search": "web_search_call.action.sources",
    "file_search": "file_search_call.results",
    "code_interpreter": "code_interpreter_call.outputs",
}
"""What a reply tells of the calls of a tool only if it is asked to."""

_PLAIN_ITEMS = frozenset({"message", "reasoning", "function_call"})
_IMAGE_FIELDS = ("type", "id", "status")
_FINAL_EVENTS = {"response.completed", "response.incomplete", "response.failed"}


class Responses:
    """Satisfies `WireFormat`."""

    stream_content: Literal["events"] = "events"

    def url(self, connection: ProviderConnection, *, is_stream: bool) -> str:
        del is_stream
        return f"{connection.base_url}{connection.responses_path}"

    def body(
        self, request: GenerationRequest, connection: ProviderConnection, *, is_stream: bool
    ) -> JsonObject:
        choice, profile = request.choice, connection.profile
        reasoning = signatures_by_call(request.messages, OPENAI_SIGNATURE)
        body: JsonObject = {
            "model": choice.model,
            "input": [
                item
                for message in provider_chat_messages(request.messages, profile)
                for item in _items(message, reasoning)
            ],
            "store": False,
        }
        options = profile.reasoning_options(choice.reasoning_budget, choice.model)
        if options:
            body["reasoning"] = {"effort": options["reasoning_effort"], "summary": "auto"}
        provider_tools = profile.provider_tool_bodies(request.provider_tools, choice.model)
        include = [_INCLUDED[tool["type"]] for tool in provider_tools if tool["type"] in _INCLUDED]
        # Calls of the provider are refused without the thinking that led to them.
        if options or (provider_tools and re.fullmatch(profile.thinking_models, choice.model)):
            include.insert(0, "reasoning.encrypted_content")
        if include:
            body["include"] = include
        if request.tools or provider_tools:
            # Without `strict: false`, schemas with optional properties would be refused.
            functions = [
                {"type": "function", "strict": False, **tool["function"]}
                for tool in chat_tools(request.tools)
            ]
            body["tools"] = [*functions, *provider_tools]
        if limit := request.provider_tools.options.get("webSearch", {}).get("maxUses"):
            body["max_tool_calls"] = limit
        if is_stream:
            body["stream"] = True
        return body

    def reader(self, builder: ReplyBuilder) -> "ResponsesReader":
        return ResponsesReader(builder)


def _items(message: ChatMessage, reasoning: Mapping[str, str]) -> list[JsonObject]:
    role, content = message["role"], message["content"]
    if role == "tool":
        output = {"type": "function_call_output", "call_id": message["tool_call_id"]}
        return [{**output, "output": content}]
    if "output" in message.get("provider_content", ()):
        return _provider_items(message)
    is_text = isinstance(content, str)
    items: list[JsonObject] = []
    if content:
        parts: Any = content if is_text else [_input_part(block) for block in content]
        items.append({"role": role, "content": parts})
    for call in message.get("tool_calls", ()):
        if call["id"] in reasoning:
            encrypted = reasoning[call["id"]]
            items.append({"type": "reasoning", "summary": [], "encrypted_content": encrypted})
        items.append({"type": "function_call", "call_id": call["id"], **call["function"]})
    return items


def _provider_items(message: ChatMessage) -> list[JsonObject]:
    """A reply as it was, with its images; its calls have the ids that their results name."""
    ids = iter([call["id"] for call in message.get("tool_calls", ())])
    images = iter(message["media"])
    items: list[JsonObject] = []
    for item in message["provider_content"]["output"]:
        match item["type"]:
            case "function_call":
                items.append({**item, "call_id": next(ids, item.get("call_id"))})
            case "image_generation_call":
                known = {name: item[name] for name in _IMAGE_FIELDS if name in item}
                items += [{**known, "result": image} for image in islice(images, 1)]
            case _:
                items.append(item)
    return items


def _input_part(block: Block) -> JsonObject:
    match block["type"]:
        case "image_url":
            return {"type": "input_image", "image_url": block["image_url"]["url"]}
        case "file":
            file = block["file"]
            return {
                "type": "input_file",
                "filename": file["filename"],
                "file_data": file["file_data"],
            }
        case _:
            return {"type": "input_text", "text": block["text"]}


class ResponsesReader:
    """Satisfies `ReplyReader`."""

    def __init__(self, builder: ReplyBuilder) -> None:
        self._builder = builder
        self._streamed_items: set[object] = set()
        self._items: list[JsonObject] = []

    def add(self, payload: bytes) -> bool:
        event = parse_payload(payload)
        kind: object = event.get("type")
        match kind:
            case "response.output_text.delta" | "response.refusal.delta":
                self._streamed_items.add(event.get("output_index"))
                self._builder.add_text(event.get("delta"))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._streamed_items.add(event.get("output_index"))
                self._builder.add_thinking(event.get("delta"))
            case "response.output_item.done":
                is_streamed = event.get("output_index") in self._streamed_items
                self._add_item(object_or_empty(event.get("item")), is_streamed=is_streamed)
            case "error":
                raise StreamError(
                    text_or_empty(event.get("message")) or "no reason given",
                    429 if event.get("code") == "rate_limit_exceeded" else None,
                )
            case _:
                pass  # what announces or repeats a part
        if kind in _FINAL_EVENTS:
            self._finish(object_or_empty(event.get("response")))
        return kind in _FINAL_EVENTS

    def add_whole(self, document: JsonObject) -> None:
        for item in list_or_empty(document.get("output")):
            self._add_item(object_or_empty(item), is_streamed=False)
        self._finish(document)

    def _add_item(self, item: JsonObject, *, is_streamed: bool) -> None:
        builder = self._builder
        self._items.append(item)
        match item.get("type"):
            case "message" if not is_streamed:
                for part in map(object_or_empty, list_or_empty(item.get("content"))):
                    builder.add_text(part.get("text") or part.get("refusal"))
            case "reasoning":
                for part in list_or_empty(item.get("summary")) if not is_streamed else ():
                    builder.add_thinking(object_or_empty(part).get("text"))
                if encrypted := text_or_empty(item.get("encrypted_content")):
                    builder.add_signature(f"{OPENAI_SIGNATURE}{encrypted}")
            case "function_call":
                builder.start_call(
                    item.get("arguments"), call_id=item.get("call_id"), name=item.get("name")
                )
            case _:
                pass

    def _finish(self, response: JsonObject) -> None:
        raise_reported_error(response)
        builder = self._builder
        builder.response_id = text_or_empty(response.get("id")) or None
        builder.response_model = text_or_empty(response.get("model")) or None
        builder.add_usage(_parse_usage(response.get("usage")))
        status: object = response.get("status")
        details = object_or_empty(response.get("incomplete_details"))
        match status, details.get("reason"):
            case "completed", _:
                builder.finish_reason = "stop"
            case "incomplete", "max_output_tokens":
                builder.finish_reason = "length"
            case "incomplete", "content_filter":
                builder.finish_reason = "contentFilter"
            case _, reason:
                raise InvalidReplyError(f"it ended with {str(reason or status)[:60]!r}")
        self._keep_provider_items()

    def _keep_provider_items(self) -> None:
        """Hand citations and images over, and the items if one is more than text and calls."""
        builder, items = self._builder, list(filter(_is_replayable, self._items))
        annotations = [each for item in items for each in _annotations(item)]
        builder.files += _files(annotations)
        builder.citations += _citations(items)
        calls = [item["type"] for item in items if item["type"] not in _PLAIN_ITEMS]
        if builder.citations or calls:
            output = [_without_image(item, builder) for item in items]
            builder.set_provider_content(
                {"output": output}, [call.removesuffix("_call") for call in calls]
            )


def _is_replayable(item: JsonObject) -> bool:
    kind = text_or_empty(item.get("type"))
    return bool(item.get("encrypted_content")) if kind == "reasoning" else bool(kind)


def _without_image(item: JsonObject, builder: ReplyBuilder) -> JsonObject:
    image = text_or_empty(item.get("result"))
    if item["type"] != "image_generation_call" or not image:
        return item
    builder.add_media(f"image/{item.get('output_format') or 'png'}", image)
    return {name: value for name, value in item.items() if name != "result"}


def _annotations(item: JsonObject) -> list[JsonObject]:
    parts = list_or_empty(item.get("content")) if item["type"] == "message" else []
    listed = (list_or_empty(object_or_empty(part).get("annotations")) for part in parts)
    return [object_or_empty(annotation) for some in listed for annotation in some]


def _files(annotations: Iterable[JsonObject]) -> list[FileReference]:
    """The files that code has written and the text names."""
    files: dict[str, FileReference] = {}
    for annotation in annotations:
        file_id = text_or_empty(annotation.get("file_id"))
        container = text_or_empty(annotation.get("container_id"))
        if file_id and container:
            folder = f"/containers/{quote(container, safe='')}/files"
            path = f"{folder}/{quote(file_id, safe='')}/content"
            name = text_or_empty(annotation.get("filename"))
            files[file_id] = FileReference(file_id, path, name)
    return list(files.values())


def _citations(items: Iterable[JsonObject]) -> list[Citation]:
    citations: list[Citation] = []
    offset = 0
    for item in items:
        parts = list_or_empty(item.get("content")) if item["type"] == "message" else []
        for part in map(object_or_empty, parts):
            annotations = map(object_or_empty, list_or_empty(part.get("annotations")))
            citations += [_citation(annotation, offset) for annotation in annotations]
            text = text_or_empty(part.get("text") or part.get("refusal"))
            offset += len(replace_surrogates(text))
    return citations


def _citation(annotation: JsonObject, offset: int) -> Citation:
    is_span = "start_index" in annotation
    return Citation(
        url=text_or_empty(annotation.get("url")) or None,
        title=text_or_empty(annotation.get("title") or annotation.get("filename")) or None,
        start=offset + token_count(annotation, "start_index") if is_span else None,
        end=offset + token_count(annotation, "end_index") if is_span else None,
    )


def _parse_usage(counts: object) -> Usage:
    usage = object_or_empty(counts)
    input_tokens = token_count(usage, "input_tokens")
    output_tokens = token_count(usage, "output_tokens")
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=token_count(usage.get("output_tokens_details"), "reasoning_tokens"),
        total_tokens=token_count(usage, "total_tokens") or input_tokens + output_tokens,
        cached_input_tokens=token_count(usage.get("input_tokens_details"), "cached_tokens"),
    )
