"""OpenAI Chat Completions."""

import re

from tests.model_server.dialects.dialect import Dialect, data_frame
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


def read(_path: str, body: JsonObject) -> Conversation:
    """The neutral reading of a chat body."""
    system: list[str] = []
    messages: list[Message] = []
    for message in as_objects(body.get("messages")):
        role, content = message.get("role"), message.get("content")
        if role in ("system", "developer"):
            system.append(joined_text(content))
        elif role == "assistant":
            messages.append(_assistant(message))
        elif role == "tool":
            call_id, name = as_text(message.get("tool_call_id")), as_text(message.get("name"))
            text = joined_text(content)
            messages.append(Message("tool", text, tool_call_id=call_id, tool_name=name))
        else:
            messages += user_messages(text_parts(content))
    return Conversation(
        model=as_text(body.get("model")),
        system="\n".join(system),
        messages=tuple(messages),
        tools=offered_tools(body),
        is_stream=body.get("stream") is True,
    )


def _assistant(message: JsonObject) -> Message:
    calls: list[ToolCall] = []
    for item in as_objects(message.get("tool_calls")):
        function = as_object(item.get("function"))
        arguments = decode_arguments(function.get("arguments"))
        calls.append(ToolCall(as_text(function.get("name")), arguments, as_text(item.get("id"))))
    return Message(
        "assistant",
        joined_text(message.get("content")),
        tuple(calls),
        thinking=as_text(message.get("reasoning_content")),
    )


def offered_tools(body: JsonObject) -> tuple[Tool, ...]:
    """The function tools of a body in the shape of Chat Completions."""
    functions = [as_object(tool.get("function")) for tool in as_objects(body.get("tools"))]
    return tuple(
        Tool(as_text(function["name"]), description=as_text(function.get("description")))
        for function in functions
        if "name" in function
    )


def whole(request: Request, reply: Reply) -> JsonObject:
    """A `chat.completion` object."""
    message: JsonObject = {"role": "assistant", "content": reply.text or None}
    if reply.thinking:
        message["reasoning_content"] = reply.thinking
    if reply.tool_calls:
        message["tool_calls"] = [_call(request, i, c) for i, c in enumerate(reply.tool_calls)]
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    base = _base(request, "chat.completion")
    return {**base, "choices": [choice], "usage": _usage(reply.usage)}


def events(request: Request, reply: Reply) -> list[JsonObject]:
    """Chunks: role, thinking, text, calls, finish, and the usage where it was asked for."""
    deltas: list[JsonObject] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": piece} for piece in reply.cut(reply.thinking)]
    deltas += [{"content": piece} for piece in reply.cut(reply.text)]
    for index, tool_call in enumerate(reply.tool_calls):
        opening = _call(request, index, tool_call)
        opening["function"]["arguments"] = ""
        deltas.append({"tool_calls": [{"index": index, **opening}]})
        for piece in reply.cut(tool_call.arguments_json):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    base = _base(request, "chat.completion.chunk")
    chunks: list[JsonObject] = [
        {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        for delta in deltas
    ]
    finish: JsonObject = {"index": 0, "delta": {}, "finish_reason": reply.finish_reason}
    chunks.append({**base, "choices": [finish]})
    if as_object(request.body.get("stream_options")).get("include_usage"):
        chunks.append({**base, "choices": [], "usage": _usage(reply.usage)})
    return chunks


def _base(request: Request, kind: str) -> JsonObject:
    model = request.model
    return {"id": f"chatcmpl-{request.number}", "object": kind, "created": 1, "model": model}


def _call(request: Request, index: int, tool_call: ToolCall) -> JsonObject:
    return {
        "id": tool_call.id or f"call_{request.number}_{index}",
        "type": "function",
        "function": {"name": tool_call.name, "arguments": tool_call.arguments_json},
    }


def _usage(usage: Usage) -> JsonObject:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def error(status: int, message: str) -> JsonObject:
    """The error body that both OpenAI formats share."""
    kind = "rate_limit_error" if status == 429 else "server_error"
    kind = "invalid_request_error" if status in (400, 401, 403, 404) else kind
    return {"error": {"message": message, "type": kind, "param": None, "code": str(status)}}


OPENAI_CHAT = Dialect(
    name="openai_chat",
    path=re.compile(r"/chat/completions$"),
    read=read,
    whole=whole,
    events=events,
    error=error,
    error_event=error,
    frame=data_frame,
    last_frame=b"data: [DONE]\n\n",
)
