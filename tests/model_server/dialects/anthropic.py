"""Anthropic Messages, also as Vertex AI serves them."""

import re

from tests.model_server.dialects.dialect import Dialect, named_frame
from tests.model_server.json_values import (
    JsonObject,
    as_objects,
    as_text,
    decode_arguments,
    joined_text,
    text_parts,
)
from tests.model_server.reply import Reply, ToolCall, Usage
from tests.model_server.request import Conversation, Message, Request, Tool, user_messages

_MODEL = re.compile(r"models/([^/:]+)")
_STOP_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def read(path: str, body: JsonObject) -> Conversation:
    """The neutral reading of a Messages body; on Vertex AI the path names the model."""
    named = _MODEL.search(path)
    system = [joined_text(body.get("system"))]
    messages: list[Message] = []
    for message in as_objects(body.get("messages")):
        role, content = message.get("role"), message.get("content")
        if role == "assistant":
            messages.append(_assistant(content))
        elif role == "system":
            system.append(joined_text(content))
        else:
            messages += _results(content)
            messages += user_messages(text_parts(content))
    tools = as_objects(body.get("tools"))
    return Conversation(
        model=named[1] if named else as_text(body.get("model")),
        system="\n".join(text for text in system if text),
        messages=tuple(messages),
        tools=tuple(
            Tool(as_text(tool.get("name")), description=as_text(tool.get("description")))
            for tool in tools
        ),
        is_stream=body.get("stream") is True,
    )


def _assistant(content: object) -> Message:
    blocks = as_objects(content)
    calls = tuple(
        ToolCall(
            as_text(block.get("name")),
            decode_arguments(block.get("input")),
            as_text(block.get("id")),
        )
        for block in blocks
        if block.get("type") == "tool_use"
    )
    thinking = "\n".join(as_text(block["thinking"]) for block in blocks if "thinking" in block)
    return Message("assistant", joined_text(content), calls, thinking)


def _results(content: object) -> list[Message]:
    return [
        Message(
            "tool",
            joined_text(block.get("content")),
            tool_call_id=as_text(block.get("tool_use_id")),
        )
        for block in as_objects(content)
        if block.get("type") == "tool_result"
    ]


def whole(request: Request, reply: Reply) -> JsonObject:
    """A finished `message` object."""
    return {
        **_opened(request, reply.usage),
        "content": _blocks(request, reply),
        "stop_reason": _STOP_REASONS[reply.finish_reason],
    }


def _opened(request: Request, usage: Usage) -> JsonObject:
    return {
        "id": f"msg_{request.number}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(usage),
    }


def _blocks(request: Request, reply: Reply) -> list[JsonObject]:
    blocks: list[JsonObject] = []
    if reply.thinking:
        thinking = {"thinking": reply.thinking, "signature": reply.signature}
        blocks.append({"type": "thinking", **thinking})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    blocks += [
        {
            "type": "tool_use",
            "id": called.id or f"toolu_{request.number}_{index}",
            "name": called.name,
            "input": called.arguments,
        }
        for index, called in enumerate(reply.tool_calls)
    ]
    return blocks


def events(request: Request, reply: Reply) -> list[JsonObject]:
    """`message_start`, the blocks, `message_delta` with the stop reason, `message_stop`."""
    stream: list[JsonObject] = [
        {"type": "message_start", "message": _opened(request, reply.usage)},
        {"type": "ping"},
    ]
    calls = iter(reply.tool_calls)
    for index, block in enumerate(_blocks(request, reply)):
        called = next(calls) if block["type"] == "tool_use" else None
        opened, deltas = _deltas(reply, block, called)
        stream.append({"type": "content_block_start", "index": index, "content_block": opened})
        stream += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        stream.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": _STOP_REASONS[reply.finish_reason], "stop_sequence": None}
    usage = {"output_tokens": reply.usage.output_tokens}
    stream.append({"type": "message_delta", "delta": delta, "usage": usage})
    stream.append({"type": "message_stop"})
    return stream


def _deltas(
    reply: Reply, block: JsonObject, called: ToolCall | None
) -> tuple[JsonObject, list[JsonObject]]:
    if called is not None:
        pieces = reply.cut(called.arguments_json)
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        return {**block, "input": {}}, deltas
    if block["type"] == "text":
        pieces = reply.cut(reply.text)
        return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces]
    pieces = reply.cut(reply.thinking)
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    seal = {"type": "signature_delta", "signature": reply.signature}
    return {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, seal]


def _usage(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }


def error(status: int, message: str) -> JsonObject:
    """The error body, and the error event of a stream."""
    kind = _ERROR_TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


ANTHROPIC = Dialect(
    name="anthropic",
    path=re.compile(r"(/messages|:(streamR|r)awPredict)$"),
    read=read,
    whole=whole,
    events=events,
    error=error,
    error_event=error,
    frame=named_frame,
)
