"""OpenAI Responses: the events of a stream."""

import re

from tests.model_server.dialects import openai_chat, openai_responses
from tests.model_server.dialects.dialect import Dialect, named_frame
from tests.model_server.json_values import JsonObject
from tests.model_server.reply import Reply
from tests.model_server.request import Request


def events(request: Request, reply: Reply) -> list[JsonObject]:
    """`response.created` to `response.completed` (or `.incomplete`), numbered."""
    opened = openai_responses.opened(request)
    closed = openai_responses.whole(request, reply)
    stream: list[JsonObject] = [
        {"type": "response.created", "response": opened},
        {"type": "response.in_progress", "response": opened},
    ]
    for index, item in enumerate(closed["output"]):
        stream += _item_events(reply, item, index)
    stream.append({"type": f"response.{closed['status']}", "response": closed})
    return [{**event, "sequence_number": number} for number, event in enumerate(stream)]


def _item_events(reply: Reply, item: JsonObject, index: int) -> list[JsonObject]:
    empty, inner = {
        "message": _message,
        "function_call": _function_call,
        "reasoning": _reasoning,
    }[item["type"]](reply, item)
    added = {"type": "response.output_item.added", "item": {**empty, "status": "in_progress"}}
    done = {"type": "response.output_item.done", "item": item}
    inner = [{"item_id": item["id"], **event} for event in inner]
    return [{**event, "output_index": index} for event in (added, *inner, done)]


def _message(reply: Reply, item: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    part = item["content"][0]
    inner: list[JsonObject] = [
        {"type": "response.content_part.added", "part": {**part, "text": ""}},
        *(
            {"type": "response.output_text.delta", "delta": piece, "logprobs": []}
            for piece in reply.cut(part["text"])
        ),
        {"type": "response.output_text.done", "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", "part": part},
    ]
    return {**item, "content": []}, [{"content_index": 0, **event} for event in inner]


def _function_call(reply: Reply, item: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    kind, arguments = "response.function_call_arguments", item["arguments"]
    inner: list[JsonObject] = [
        {"type": f"{kind}.delta", "delta": piece} for piece in reply.cut(arguments)
    ]
    inner.append({"type": f"{kind}.done", "name": item["name"], "arguments": arguments})
    return {**item, "arguments": ""}, inner


def _reasoning(reply: Reply, item: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    kind, part = "response.reasoning_summary", item["summary"][0]
    inner: list[JsonObject] = [
        {"type": f"{kind}_part.added", "part": {**part, "text": ""}},
        *({"type": f"{kind}_text.delta", "delta": piece} for piece in reply.cut(part["text"])),
        {"type": f"{kind}_text.done", "text": part["text"]},
        {"type": f"{kind}_part.done", "part": part},
    ]
    return {**item, "summary": []}, [{"summary_index": 0, **event} for event in inner]


def error_event(status: int, message: str) -> JsonObject:
    """The `error` event of a stream."""
    kind = "rate_limit_exceeded" if status == 429 else "server_error"
    return {"type": "error", "code": kind, "message": message, "param": None, "sequence_number": 0}


OPENAI_RESPONSES = Dialect(
    name="openai_responses",
    path=re.compile(r"/responses$"),
    read=openai_responses.read,
    whole=openai_responses.whole,
    events=events,
    error=openai_chat.error,
    error_event=error_event,
    frame=named_frame,
)
