"""Amazon Bedrock `converse` and `converse-stream` (as frames with checksums)."""

import json
import re
import struct
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote
from zlib import crc32

from tests.model_server.dialects.dialect import Dialect
from tests.model_server.json_values import (
    JsonObject,
    as_object,
    as_objects,
    as_text,
    decode_arguments,
    joined_text,
    text_parts,
)
from tests.model_server.reply import Reply, ToolCall, Usage
from tests.model_server.request import Conversation, Message, Request, Tool, user_messages

_PATH = re.compile(r"/model/([^/]+)/converse(-stream)?$")
_STOP_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "content_filtered",
}
_EXCEPTIONS = {
    400: "validationException",
    424: "modelStreamErrorException",
    429: "throttlingException",
    503: "serviceUnavailableException",
}


def read(path: str, body: JsonObject) -> Conversation:
    """The neutral reading of path and body; the path names the model and whether to stream."""
    named = _PATH.search(path)
    messages: list[Message] = []
    for message in as_objects(body.get("messages")):
        blocks = as_objects(message.get("content"))
        if message.get("role") == "assistant":
            messages.append(_assistant(blocks))
        else:
            messages += _results(blocks)
            messages += user_messages(text_parts(blocks))
    specs = [
        as_object(tool.get("toolSpec"))
        for tool in as_objects(as_object(body.get("toolConfig")).get("tools"))
    ]
    return Conversation(
        model=unquote(named[1]) if named else "",
        system=joined_text(body.get("system")),
        messages=tuple(messages),
        tools=tuple(
            Tool(as_text(spec.get("name")), description=as_text(spec.get("description")))
            for spec in specs
        ),
        is_stream=path.endswith("-stream"),
    )


def _assistant(blocks: list[JsonObject]) -> Message:
    calls = tuple(
        ToolCall(
            as_text(called.get("name")),
            decode_arguments(called.get("input")),
            as_text(called.get("toolUseId")),
        )
        for called in (as_object(block.get("toolUse")) for block in blocks)
        if called
    )
    reasoning = [as_object(block.get("reasoningContent")) for block in blocks]
    thinking = [as_object(each.get("reasoningText")) for each in reasoning]
    return Message("assistant", joined_text(blocks), calls, joined_text(thinking))


def _results(blocks: list[JsonObject]) -> list[Message]:
    return [
        Message(
            "tool",
            joined_text(result.get("content")),
            tool_call_id=as_text(result.get("toolUseId")),
        )
        for result in (as_object(block.get("toolResult")) for block in blocks)
        if result
    ]


def whole(request: Request, reply: Reply) -> JsonObject:
    """A finished answer."""
    content: list[JsonObject] = []
    if reply.thinking:
        text = {"text": reply.thinking, "signature": reply.signature}
        content.append({"reasoningContent": {"reasoningText": text}})
    if reply.text:
        content.append({"text": reply.text})
    content += [
        {"toolUse": {**_opened(request, index, called), "input": called.arguments}}
        for index, called in enumerate(reply.tool_calls)
    ]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _STOP_REASONS[reply.finish_reason],
        "usage": _usage(reply.usage),
        "metrics": {"latencyMs": 1},
    }


def _opened(request: Request, index: int, called: ToolCall) -> JsonObject:
    call_id = called.id or f"tooluse_{request.number}_{index}"
    return {"toolUseId": call_id, "name": called.name}


def events(request: Request, reply: Reply) -> list[JsonObject]:
    """`messageStart`, the deltas of the blocks, `messageStop`, `metadata` with the usage."""
    blocks: list[tuple[JsonObject | None, list[JsonObject]]] = []
    if reply.thinking:
        pieces = [{"text": piece} for piece in reply.cut(reply.thinking)]
        reasoning = [*pieces, {"signature": reply.signature}]
        blocks.append((None, [{"reasoningContent": each} for each in reasoning]))
    if reply.text:
        blocks.append((None, [{"text": piece} for piece in reply.cut(reply.text)]))
    for index, called in enumerate(reply.tool_calls):
        deltas = [{"toolUse": {"input": piece}} for piece in reply.cut(called.arguments_json)]
        blocks.append(({"toolUse": _opened(request, index, called)}, deltas))
    stream: list[JsonObject] = [{"messageStart": {"role": "assistant"}}]
    for index, (start, deltas) in enumerate(blocks):
        place = {"contentBlockIndex": index}
        if start is not None:
            stream.append({"contentBlockStart": {"start": start, **place}})
        stream += [{"contentBlockDelta": {"delta": delta, **place}} for delta in deltas]
        stream.append({"contentBlockStop": place})
    stream.append({"messageStop": {"stopReason": _STOP_REASONS[reply.finish_reason]}})
    stream.append({"metadata": {"usage": _usage(reply.usage), "metrics": {"latencyMs": 1}}})
    return stream


def _usage(usage: Usage) -> JsonObject:
    input_tokens = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    return {
        "inputTokens": input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.input_tokens + usage.output_tokens,
        "cacheReadInputTokens": usage.cached_tokens,
        "cacheWriteInputTokens": usage.cache_write_tokens,
    }


def error(_status: int, message: str) -> JsonObject:
    return {"message": message}


def error_event(status: int, message: str) -> JsonObject:
    """The frame of an exception, whose name tells the status."""
    return {_EXCEPTIONS.get(status, "internalServerException"): {"message": message}}


def frame(event: Mapping[str, Any]) -> bytes:
    """An event under its type as a frame."""
    [(kind, value)] = event.items()
    message_type = "exception" if kind.endswith("Exception") else "event"
    headers = {
        f":{message_type}-type": kind,
        ":content-type": "application/json",
        ":message-type": message_type,
    }
    return encode(headers, json.dumps(value).encode())


def encode(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A frame of an event stream."""
    encoded = b"".join(map(_header, headers.items()))
    lengths = struct.pack(">II", 12 + len(encoded) + len(payload) + 4, len(encoded))
    content = lengths + struct.pack(">I", crc32(lengths)) + encoded + payload
    return content + struct.pack(">I", crc32(content))


def _header(header: tuple[str, str]) -> bytes:
    name, value = (each.encode() for each in header)
    return struct.pack(">B", len(name)) + name + struct.pack(">BH", 7, len(value)) + value


BEDROCK = Dialect(
    name="bedrock",
    path=_PATH,
    read=read,
    whole=whole,
    events=events,
    error=error,
    error_event=error_event,
    frame=frame,
    stream_type="application/vnd.amazon.eventstream",
)
