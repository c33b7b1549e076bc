"""OpenAI Responses: reading requests, and answers without a stream."""

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

_INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def read(_path: str, body: JsonObject) -> Conversation:
    """The neutral reading of a Responses body."""
    given = body.get("input")
    system = [as_text(body.get("instructions"))]
    messages = user_messages([given]) if isinstance(given, str) else []
    for item in as_objects(given):
        if item.get("role") in ("system", "developer"):
            system.append(joined_text(item.get("content")))
        else:
            messages += _messages(item)
    return Conversation(
        model=as_text(body.get("model")),
        system="\n".join(text for text in system if text),
        messages=tuple(messages),
        tools=tuple(_tools(body.get("tools"))),
        is_stream=body.get("stream") is True,
    )


def _messages(item: JsonObject) -> list[Message]:
    kind = as_text(item.get("type")) or "message"
    if kind == "message":
        texts = text_parts(item.get("content"))
        if item.get("role") == "assistant":
            return [Message("assistant", "\n".join(texts))]
        return user_messages(texts)
    call_id = as_text(item.get("call_id"))
    if kind.endswith("_call_output"):
        return [Message("tool", _output_text(item.get("output")), tool_call_id=call_id)]
    if kind == "reasoning":
        return [Message("assistant", thinking=joined_text(item.get("summary")))]
    if kind.endswith("_call"):
        arguments = decode_arguments(item.get("arguments", item.get("input")))
        name, namespace = as_text(item.get("name")), as_text(item.get("namespace"))
        tool_call = ToolCall(name, arguments, call_id, namespace or None)
        return [Message("assistant", tool_calls=(tool_call,))]
    return []


def _output_text(output: object) -> str:
    texts = text_parts(output)
    return "\n".join(texts) if texts else as_text(output)


def _tools(offered: object, namespace: str | None = None) -> list[Tool]:
    tools: list[Tool] = []
    for tool in as_objects(offered):
        name = as_text(tool.get("name"))
        if tool.get("type") == "namespace":
            tools += _tools(tool.get("tools"), name)
        elif tool.get("type") == "function":
            tools.append(Tool(name, namespace, as_text(tool.get("description"))))
    return tools


def whole(request: Request, reply: Reply) -> JsonObject:
    """A finished `response` object."""
    reason = _INCOMPLETE_REASONS.get(reply.finish_reason)
    return {
        **opened(request),
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": output_items(request, reply),
        "usage": _usage(reply.usage),
    }


def opened(request: Request) -> JsonObject:
    """The `response` object before anything was said."""
    return {
        "id": f"resp_{request.number}",
        "object": "response",
        "created_at": 1,
        "status": "in_progress",
        "model": request.model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "top_p": 1.0,
        "tool_choice": "auto",
        "tools": [],
    }


def output_items(request: Request, reply: Reply) -> list[JsonObject]:
    """Reasoning, message and calls, each as a finished item."""
    items: list[JsonObject] = []
    if reply.thinking:
        items.append(
            {
                "type": "reasoning",
                "id": f"rs_{request.number}",
                "summary": [{"type": "summary_text", "text": reply.thinking}],
                "encrypted_content": reply.signature,
                "status": "completed",
            }
        )
    if reply.text or not reply.tool_calls:
        items.append(
            {
                "type": "message",
                "id": f"msg_{request.number}",
                "role": "assistant",
                "status": "completed",
                "content": [
                    {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
                ],
            }
        )
    items += [_call(request, index, called) for index, called in enumerate(reply.tool_calls)]
    return items


def _call(request: Request, index: int, called: ToolCall) -> JsonObject:
    item: JsonObject = {
        "type": "function_call",
        "id": f"fc_{request.number}_{index}",
        "call_id": called.id or f"call_{request.number}_{index}",
        "name": called.name,
        "arguments": called.arguments_json,
        "status": "completed",
    }
    namespace = called.namespace or request.namespace_of(called.name)
    return {**item, "namespace": namespace} if namespace else item


def _usage(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
