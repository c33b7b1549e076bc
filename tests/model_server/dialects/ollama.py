"""Ollama chat, streamed as NDJSON."""

import re

from tests.model_server.dialects.dialect import Dialect, line_frame
from tests.model_server.dialects.openai_chat import offered_tools
from tests.model_server.json_values import (
    JsonObject,
    as_object,
    as_objects,
    as_text,
    decode_arguments,
)
from tests.model_server.reply import Reply, ToolCall
from tests.model_server.request import Conversation, Message, Request, user_messages

# The provider knows no reason of its own for calls and for filtered content.
_DONE_REASONS = {"stop": "stop", "tool_calls": "stop", "length": "length", "content_filter": "stop"}


def read(_path: str, body: JsonObject) -> Conversation:
    """The neutral reading of a chat body."""
    system: list[str] = []
    messages: list[Message] = []
    for message in as_objects(body.get("messages")):
        role, text = message.get("role"), as_text(message.get("content"))
        if role == "system":
            system.append(text)
        elif role == "assistant":
            messages.append(_assistant(message, text))
        elif role == "tool":
            name = as_text(message.get("tool_name") or message.get("name"))
            call_id = as_text(message.get("tool_call_id"))
            messages.append(Message("tool", text, tool_call_id=call_id, tool_name=name))
        else:
            messages += user_messages([text])
    return Conversation(
        model=as_text(body.get("model")),
        system="\n".join(system),
        messages=tuple(messages),
        tools=offered_tools(body),
        # This provider streams unless the client says no.
        is_stream=body.get("stream") is not False,
    )


def _assistant(message: JsonObject, text: str) -> Message:
    functions = [as_object(item.get("function")) for item in as_objects(message.get("tool_calls"))]
    calls = tuple(
        ToolCall(as_text(function.get("name")), decode_arguments(function.get("arguments")))
        for function in functions
    )
    return Message("assistant", text, calls, as_text(message.get("thinking")))


def whole(request: Request, reply: Reply) -> JsonObject:
    """A finished chat object."""
    message: JsonObject = {"role": "assistant", "content": reply.text}
    if reply.thinking:
        message["thinking"] = reply.thinking
    if reply.tool_calls:
        message["tool_calls"] = _calls(reply)
    return {**_line(request, message), **_ending(reply)}


def events(request: Request, reply: Reply) -> list[JsonObject]:
    """A line for each piece, one with the calls, and the closing one with the counts."""
    said: list[JsonObject] = [
        {"content": "", "thinking": piece} for piece in reply.cut(reply.thinking)
    ]
    said += [{"content": piece} for piece in reply.cut(reply.text)]
    if reply.tool_calls:
        said.append({"content": "", "tool_calls": _calls(reply)})
    lines = [_line(request, {"role": "assistant", **message}) for message in said]
    closing = _line(request, {"role": "assistant", "content": ""})
    return [*lines, {**closing, **_ending(reply)}]


def _line(request: Request, message: JsonObject) -> JsonObject:
    created = "2026-01-01T00:00:00Z"
    return {"model": request.model, "created_at": created, "message": message, "done": False}


def _calls(reply: Reply) -> list[JsonObject]:
    return [
        {"function": {"index": index, "name": called.name, "arguments": called.arguments}}
        for index, called in enumerate(reply.tool_calls)
    ]


def _ending(reply: Reply) -> JsonObject:
    return {
        "done": True,
        "done_reason": _DONE_REASONS[reply.finish_reason],
        "total_duration": 1,
        "load_duration": 1,
        "prompt_eval_count": reply.usage.input_tokens,
        "prompt_eval_duration": 1,
        "eval_count": reply.usage.output_tokens,
        "eval_duration": 1,
    }


def error(_status: int, message: str) -> JsonObject:
    """The error body, and the error line of a stream."""
    return {"error": message}


OLLAMA = Dialect(
    name="ollama",
    path=re.compile(r"/api/chat$"),
    read=read,
    whole=whole,
    events=events,
    error=error,
    error_event=error,
    frame=line_frame,
    stream_type="application/x-ndjson",
)
