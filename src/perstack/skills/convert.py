"""Converts tools and results of MCP servers to those of a run."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

from perstack.core.messages import (
    FileInlinePart,
    ImageInlinePart,
    ResultPart,
    TextPart,
    ToolCall,
    ToolResult,
    tool_result,
)
from perstack.core.tools import ToolDefinition

MAX_ARGUMENT_CHARACTERS = 1_000
DEFAULT_MIME_TYPE = "application/octet-stream"

Redact = Callable[[str], str]


def filter_tools(
    tools: Sequence[Tool], pick: Sequence[str], omit: Sequence[str], warn: Callable[[str], None]
) -> list[Tool]:
    """The tools without `omit`, then only `pick` if it names any."""
    available = [tool.name for tool in tools]
    for key, names in (("pick", pick), ("omit", omit)):
        unknown = [name for name in names if name not in available]
        if unknown:
            warn(
                f"`{key}` names {', '.join(map(repr, unknown))}, which the server does not offer; "
                f"it offers {', '.join(map(repr, available)) or 'nothing'}"
            )
    allowed = [tool for tool in tools if tool.name not in omit]
    return [tool for tool in allowed if tool.name in pick] if pick else allowed


def to_tool_definition(skill_name: str, tool: Tool) -> ToolDefinition:
    hints = tool.annotations
    is_read_only = hints is not None and hints.read_only_hint is True
    return ToolDefinition(
        skill_name=skill_name,
        name=tool.name,
        description=tool.description or tool.title or "",
        input_schema={"type": "object", **tool.input_schema},
        is_read_only=is_read_only,
        is_repeatable=is_read_only or (hints is not None and hints.idempotent_hint is True),
    )


def to_tool_result(call: ToolCall, result: CallToolResult, redact: Redact) -> ToolResult:
    """The result of a call for the model.

    Text, images and embedded resources are kept; content that no model accepts, such as audio, is
    replaced by a description; structured content replaces missing text.
    """
    parts = [part for block in result.content for part in _to_result_parts(block, redact)]
    if result.structured_content is not None and not _has_text(parts):
        text = json.dumps(result.structured_content, ensure_ascii=False)
        parts.append(TextPart(text=redact(text)))
    if not parts:
        parts.append(TextPart(text=_empty_result_text(call)))
    return tool_result(call, tuple(parts), is_error=result.is_error)


def _to_result_parts(block: ContentBlock, redact: Redact) -> Iterator[ResultPart]:
    match block:
        case TextContent():
            if block.text:
                yield TextPart(text=redact(block.text))
        case ImageContent():
            yield _media_part(block.data, block.mime_type, "image")
        case AudioContent():
            size = len(block.data) * 3 // 4
            yield TextPart(text=f"[A sound of type {block.mime_type}, {size} bytes, not shown.]")
        case ResourceLink():
            yield TextPart(text=redact(_describe_link(block)))
        case EmbeddedResource(resource=TextResourceContents() as resource):
            yield TextPart(text=redact(resource.text))
        case EmbeddedResource(resource=BlobResourceContents() as resource):
            yield _media_part(resource.blob, resource.mime_type or DEFAULT_MIME_TYPE, resource.uri)
        case _:
            yield TextPart(text=f"[Content of type {block.type}, not shown.]")


def _media_part(encoded: str, mime_type: str, label: str) -> ResultPart:
    try:
        base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        # A provider would refuse every later request with this message.
        return TextPart(text=f"[{label}: its data of type {mime_type} is not valid base64.]")
    if mime_type.startswith("image/"):
        return ImageInlinePart(encoded_data=encoded, mime_type=mime_type)
    return FileInlinePart(encoded_data=encoded, mime_type=mime_type)


def _describe_link(link: ResourceLink) -> str:
    facts: list[Any] = [link.title or link.name, link.uri, link.mime_type, link.description]
    return f"[Link to a resource: {', '.join(str(fact) for fact in facts if fact)}]"


def _has_text(parts: list[ResultPart]) -> bool:
    return any(isinstance(part, TextPart) for part in parts)


def _empty_result_text(call: ToolCall) -> str:
    arguments = json.dumps(call.args, ensure_ascii=False)[:MAX_ARGUMENT_CHARACTERS]
    return f"Tool {call.tool_name} returned nothing with arguments: {arguments}"
