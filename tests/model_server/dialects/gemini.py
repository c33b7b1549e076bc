"""Gemini `generateContent` and `streamGenerateContent` (as server-sent events)."""

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

_MODEL = re.compile(r"models/([^/:]+)")
_FINISH_REASONS = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def read(path: str, body: JsonObject) -> Conversation:
    """The neutral reading of path and body; the path names the model and whether to stream."""
    named = _MODEL.search(path)
    messages: list[Message] = []
    for content in as_objects(body.get("contents")):
        parts = as_objects(content.get("parts"))
        if content.get("role") == "model":
            messages.append(_assistant(parts))
        else:
            messages += _results(parts)
            messages += user_messages(text_parts(parts))
    instruction = as_object(_either(body, "systemInstruction", "system_instruction"))
    return Conversation(
        model=named[1] if named else "",
        system=joined_text(instruction.get("parts")),
        messages=tuple(messages),
        tools=tuple(_tools(body)),
        is_stream=":streamGenerateContent" in path,
    )


def _either(source: JsonObject, camel: str, snake: str) -> object:
    return source.get(camel, source.get(snake))


def _assistant(parts: list[JsonObject]) -> Message:
    calls: list[ToolCall] = []
    for part in parts:
        function = as_object(_either(part, "functionCall", "function_call"))
        if function:
            arguments = decode_arguments(function.get("args"))
            call_id = as_text(function.get("id")) or None
            calls.append(ToolCall(as_text(function.get("name")), arguments, call_id))
    said = [part for part in parts if part.get("thought") is not True]
    thought = [part for part in parts if part.get("thought") is True]
    return Message("assistant", joined_text(said), tuple(calls), joined_text(thought))


def _results(parts: list[JsonObject]) -> list[Message]:
    results: list[Message] = []
    for part in parts:
        result = as_object(_either(part, "functionResponse", "function_response"))
        if result:
            call_id, name = as_text(result.get("id")), as_text(result.get("name"))
            response = result.get("response")
            output = as_object(response).get("output")
            text = as_text(response if output is None else output)
            results.append(Message("tool", text, tool_call_id=call_id, tool_name=name))
    return results


def _tools(body: JsonObject) -> list[Tool]:
    return [
        Tool(as_text(function.get("name")), description=as_text(function.get("description")))
        for tool in as_objects(body.get("tools"))
        for function in as_objects(_either(tool, "functionDeclarations", "function_declarations"))
    ]


def whole(request: Request, reply: Reply) -> JsonObject:
    """A response with everything in one candidate."""
    parts = _said(reply, [reply.thinking] if reply.thinking else [], [reply.text])
    return _response(request, reply, parts, is_last=True)


def events(request: Request, reply: Reply) -> list[JsonObject]:
    """One response for each piece of text, then one with the calls, the reason and the usage."""
    pieces = _said(reply, reply.cut(reply.thinking), reply.cut(reply.text))
    texts = [part for part in pieces if "text" in part]
    rest = [part for part in pieces if "text" not in part]
    stream = [_response(request, reply, [part], is_last=False) for part in texts]
    return [*stream, _response(request, reply, rest or [{"text": ""}], is_last=True)]


def _said(reply: Reply, thoughts: list[str], texts: list[str]) -> list[JsonObject]:
    parts: list[JsonObject] = [{"text": text, "thought": True} for text in thoughts]
    parts += [{"text": text} for text in texts if text]
    calls = [_call(called) for called in reply.tool_calls]
    if reply.thinking and calls:
        # The provider seals its thinking on the first call alone, also with parallel calls.
        calls[0]["thoughtSignature"] = reply.signature
    return parts + calls


def _call(called: ToolCall) -> JsonObject:
    function: JsonObject = {"name": called.name, "args": called.arguments}
    return {"functionCall": {**function, "id": called.id} if called.id else function}


def _response(
    request: Request, reply: Reply, parts: list[JsonObject], *, is_last: bool
) -> JsonObject:
    candidate: JsonObject = {"index": 0, "content": {"role": "model", "parts": parts}}
    if is_last:
        candidate["finishReason"] = _FINISH_REASONS[reply.finish_reason]
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(reply.usage),
        "modelVersion": request.model or "fake-model",
        "responseId": f"gemini-{request.number}",
    }


def _usage(usage: Usage) -> JsonObject:
    counts: JsonObject = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.cached_tokens:
        counts["cachedContentTokenCount"] = usage.cached_tokens
    if usage.reasoning_tokens:
        counts["thoughtsTokenCount"] = usage.reasoning_tokens
    return counts


def error(status: int, message: str) -> JsonObject:
    """The error body, and the error event of a stream."""
    name = _STATUSES.get(status, "INTERNAL")
    return {"error": {"code": status, "message": message, "status": name}}


GEMINI = Dialect(
    name="gemini",
    path=re.compile(r":(streamG|g)enerateContent$"),
    read=read,
    whole=whole,
    events=events,
    error=error,
    error_event=error,
    frame=data_frame,
)
