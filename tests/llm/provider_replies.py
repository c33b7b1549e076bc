"""Replies in which a provider called tools itself, as each format has them, whole and streamed."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.model_server import Verbatim

JsonObject = dict[str, Any]

PIXEL = "iVBORw0KGgo="
SEARCH = {"type": "server_tool_use", "id": "srv1", "name": "web_search", "input": {"query": "sun"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srv1",
    "content": [
        {
            "type": "web_search_result",
            "url": "https://sun.example",
            "title": "Sun",
            "encrypted_content": "opaque",
        }
    ],
}
SOURCE = {
    "type": "web_search_result_location",
    "url": "https://sun.example",
    "title": "Sun",
    "encrypted_index": "e1",
    "cited_text": "It is hot.",
}
ADD = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}


def claude(
    *blocks: JsonObject, stop: str = "end_turn", container: JsonObject | None = None
) -> Verbatim:
    """A message of Anthropic."""
    whole: JsonObject = {
        "id": "msg1",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": list(blocks),
        "stop_reason": stop,
        "usage": {"input_tokens": 10, "output_tokens": 4},
    }
    if container is not None:
        whole["container"] = container
    start: JsonObject = {**whole, "content": [], "stop_reason": None}
    end = {"stop_reason": stop} | ({} if container is None else {"container": container})
    events: list[JsonObject] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(blocks):
        opened, deltas = _pieces(block)
        events.append({"type": "content_block_start", "index": index, "content_block": opened})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 4}})
    return Verbatim(whole, (*events, {"type": "message_stop"}))


def _pieces(block: JsonObject) -> tuple[JsonObject, Sequence[JsonObject]]:
    """A block as it begins, and the pieces that follow."""
    match block["type"]:
        case "text":
            text: str = block["text"]
            citations = block.get("citations", [])
            return {"type": "text", "text": ""}, [
                *({"type": "citations_delta", "citation": citation} for citation in citations),
                {"type": "text_delta", "text": text[:3]},
                {"type": "text_delta", "text": text[3:]},
            ]
        case "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}, [
                {"type": "thinking_delta", "thinking": block["thinking"]},
                {"type": "signature_delta", "signature": block["signature"]},
            ]
        case "tool_use" | "server_tool_use":
            [(name, value)] = block["input"].items()
            written = f'"{value}"' if isinstance(value, str) else str(value)
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": f'{{"{name}": '},
                {"type": "input_json_delta", "partial_json": f"{written}}}"},
            ]
        case _:
            return block, []


CLAUDE_SEARCHES = claude(
    {"type": "thinking", "thinking": "I must look.", "signature": "seal"},
    {"type": "text", "text": "I look. "},
    SEARCH,
    FOUND,
    {"type": "text", "text": "The sun is hot", "citations": [SOURCE]},
    {"type": "text", "text": "."},
    ADD,
    stop="tool_use",
    container={"id": "container_1", "expires_at": "2030-01-01T00:00:00Z"},
)


def gpt(*items: JsonObject) -> Verbatim:
    """A response of OpenAI."""
    end: JsonObject = {
        "id": "resp1",
        "model": "gpt",
        "status": "completed",
        "usage": {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14},
    }
    events: list[JsonObject] = []
    for index, item in enumerate(items):
        if item["type"] == "message":
            text: str = "".join(part["text"] for part in item["content"])
            events += [
                {"type": "response.output_text.delta", "output_index": index, "delta": piece}
                for piece in (text[:3], text[3:])
            ]
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": end})
    return Verbatim({**end, "output": list(items)}, tuple(events))


GPT_SEARCHES = gpt(
    {"type": "reasoning", "id": "rs1", "summary": [], "encrypted_content": "seal"},
    {
        "type": "web_search_call",
        "id": "ws1",
        "status": "completed",
        "action": {"type": "search", "query": "sun", "sources": [{"url": "https://sun.example"}]},
    },
    {
        "type": "image_generation_call",
        "id": "ig1",
        "status": "completed",
        "output_format": "png",
        "result": PIXEL,
    },
    {
        "type": "message",
        "id": "msg1",
        "role": "assistant",
        "status": "completed",
        "content": [
            {
                "type": "output_text",
                "text": "The sun is hot.",
                "annotations": [
                    {
                        "type": "url_citation",
                        "url": "https://sun.example",
                        "title": "Sun",
                        "start_index": 4,
                        "end_index": 14,
                    }
                ],
            }
        ],
    },
    {
        "type": "function_call",
        "id": "fc1",
        "call_id": "c1",
        "name": "add",
        "arguments": '{"a": 1}',
        "status": "completed",
    },
)


def gemini(*parts: JsonObject, **metadata: Mapping[str, Any]) -> Verbatim:
    """A reply of Gemini."""
    usage = {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14}
    head: JsonObject = {"responseId": "r1", "modelVersion": "gemini"}

    def document(some: Sequence[JsonObject], **fields: object) -> JsonObject:
        candidate = {"content": {"role": "model", "parts": list(some)}, **fields}
        return {"candidates": [candidate], "usageMetadata": usage, **head}

    events = [document([piece]) for part in parts for piece in _halves(part)]
    events.append(document([], finishReason="STOP", **metadata))
    return Verbatim(document(parts, finishReason="STOP", **metadata), tuple(events))


def _halves(part: JsonObject) -> list[JsonObject]:
    if part.keys() != {"text"}:
        return [part]
    text: str = part["text"]
    return [{"text": text[:3]}, {"text": text[3:]}]


GEMINI_SEARCHES = gemini(
    {
        "toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["sun"]}, "id": "t1"},
        "thoughtSignature": "seal1",
    },
    {
        "toolResponse": {"toolType": "GOOGLE_SEARCH_WEB", "response": {"n": 1}, "id": "t1"},
        "thoughtSignature": "seal2",
    },
    {"executableCode": {"language": "PYTHON", "code": "plot()"}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "done"}},
    {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
    {"text": "Ja: die Sonne ist heiß."},
    {
        "functionCall": {"name": "add", "args": {"a": 1}, "id": "c1"},
        "thoughtSignature": "seal3",
    },
    groundingMetadata={
        "webSearchQueries": ["sun"],
        "groundingChunks": [{"web": {"uri": "https://sun.example", "title": "Sun"}}],
        "groundingSupports": [
            {
                "segment": {"startIndex": 4, "endIndex": 24, "text": "die Sonne ist heiß."},
                "groundingChunkIndices": [0],
            }
        ],
    },
)
GEMINI_IS_GROUNDED = gemini(
    {"text": "The sun is hot."},
    {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "seal"},
    groundingMetadata={"groundingChunks": [{"web": {"uri": "https://sun.example"}}]},
)
