"""Converts tools and results of MCP servers to those of a run."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from mcp.types import Tool

from perstack.core.media import media_part
from perstack.core.messages import (
    ResultPart,
    TextPart,
    ToolCall,
    ToolResult,
    tool_result,
)
from perstack.core.tools import ToolDefinition
from perstack.models import table_or_empty

MAX_ARGUMENT_CHARACTERS = 1_000
# Those of the protocol's frame: of a result without content, the others are what the server said.
FRAME_FIELDS = frozenset({"_meta", "content", "isError", "resultType", "structuredContent"})

Redact = Callable[[str], str]


def to_tool_definition(skill_name: str, tool: Tool) -> ToolDefinition:
    hints = tool.annotations
    is_read_only = hints is not None and hints.read_only_hint is True
    return ToolDefinition(
        skill_name=skill_name,
        name=tool.name,
        description=tool.description or tool.title or "",
        input_schema={**tool.input_schema, "type": "object"},
        is_read_only=is_read_only,
        is_repeatable=is_read_only or (hints is not None and hints.idempotent_hint is True),
    )


def to_tool_result(call: ToolCall, result: Mapping[str, Any], redact: Redact) -> ToolResult:
    """The result of a call for the model, from what the server answered.

    It is read block by block, because the call has been made, whatever is wrong with a part of what
    is said about it. Text, images and documents are kept; what no model accepts, such as audio, is
    replaced by a description; structured content replaces missing text.
    """
    parts = [_redacted(part, redact) for part in _content_parts(result.get("content"))]
    if not any(isinstance(part, TextPart) for part in parts):
        structured = result.get("structuredContent")
        if structured is None and not parts:
            structured = {k: v for k, v in result.items() if k not in FRAME_FIELDS} or None
        if structured is not None:
            parts.append(TextPart(text=redact(_to_text(structured))))
    if not parts:
        parts.append(TextPart(text=_empty_result_text(call)))
    return tool_result(call, tuple(parts), is_error=_is_true(result.get("isError")))


def _content_parts(content: object) -> Iterator[ResultPart]:
    blocks = cast("list[object]", content) if isinstance(content, list) else [content]
    for block in blocks:
        if isinstance(block, dict):
            yield from _block_parts(cast("dict[str, Any]", block))
        elif block is not None and block != "":
            yield TextPart(text=_to_text(block))


def _block_parts(block: dict[str, Any]) -> Iterator[ResultPart]:
    resource = block.get("resource")
    source = table_or_empty(block.get("source"))
    match block:
        case {"type": "image", "data": str(data)}:
            yield media_part(data, _mime_type(block), "image")
        case {"type": "image"} if isinstance(source.get("data"), str):
            # As the content of some models has it.
            yield media_part(source["data"], _mime_type(source), "image")
        case {"type": "audio", "data": str(data)}:
            size = len(data) * 3 // 4
            kind = _mime_type(block) or "audio"
            yield TextPart(text=f"[A sound of type {kind}, {size} bytes, not shown.]")
        case {"type": "resource_link", "uri": _}:
            yield TextPart(text=_describe_link(block))
        case {"type": "resource"} if isinstance(resource, dict):
            yield from _resource_parts(cast("dict[str, Any]", resource))
        case {"text": text}:
            if text not in (None, ""):
                yield TextPart(text=_to_text(text))
        case {"type": "text"}:
            rest = {key: value for key, value in block.items() if key != "type"}
            if rest:
                yield TextPart(text=_to_text(rest))
        case _:
            kind = block.get("type")
            note = f"[content of type {kind}] " if isinstance(kind, str) else ""
            yield TextPart(text=note + _to_text(block))


def _resource_parts(resource: dict[str, Any]) -> Iterator[ResultPart]:
    address = resource.get("uri")
    label = address if isinstance(address, str) and address else "resource"
    match resource:
        case {"blob": str(blob)}:
            yield media_part(blob, _mime_type(resource), label)
        case {"text": text} if text is not None:
            if text != "":
                yield TextPart(text=_to_text(text))
        case _:
            yield TextPart(text=f"[content of type resource] {_to_text(resource)}")


def _mime_type(block: Mapping[str, Any]) -> str:
    declared = block.get("mimeType") or block.get("media_type")
    return declared if isinstance(declared, str) else ""


def _describe_link(link: Mapping[str, Any]) -> str:
    name = link.get("title") or link.get("name")
    facts = [name, link.get("uri"), link.get("mimeType"), link.get("description")]
    return f"[Link to a resource: {', '.join(str(fact) for fact in facts if fact)}]"


def _redacted(part: ResultPart, redact: Redact) -> ResultPart:
    return TextPart(text=redact(part.text)) if isinstance(part, TextPart) else part


def _to_text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "[JSON that is nested too deep to be shown]"


def _is_true(value: object) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _empty_result_text(call: ToolCall) -> str:
    arguments = json.dumps(call.args, ensure_ascii=False)[:MAX_ARGUMENT_CHARACTERS]
    return f"Tool {call.tool_name} returned nothing with arguments: {arguments}"
