"""Results of tools that are too long for a conversation: the model gets their two ends."""

import re

from perstack.core.messages import ToolCall, ToolResult, replace_text
from perstack.definition.references import BASE_SKILL

READ_TOOL_RESULT = "readToolResult"
NOTE_CHARACTERS = 400
"""For what is said about a text beside it."""

_NOTE = "\n[… {count:,} of {total:,} characters left out here. {remedy} …]\n"
_NOTE_PATTERN = re.compile(r"\n\[… [\d,]+ of [\d,]+ characters left out here\. ")
_READ_REMEDY = (
    'Read or search them with readToolResult, toolCallId "{id}"; they begin at offset {offset}.'
)
_CALL_AGAIN_REMEDY = "Call again for less, if you need them."


def shorten(result: ToolResult, limit: int, *, is_readable: bool) -> ToolResult:
    """The result with at most `limit` characters of text; itself if it has no more.

    Args:
        result: What the tool returned.
        limit: Of all its texts together. Other parts, such as images, are kept.
        is_readable: Whether the model has a tool to read the rest with.
    """
    text = result.text
    if len(text) <= limit:
        return result
    kept = max(limit - NOTE_CHARACTERS - len(result.id), limit // 4)
    head_end = line_end(text, 0, kept // 2)
    tail_start = _line_start(text, len(text) - kept // 2)
    remedy = (
        _READ_REMEDY.format(id=result.id, offset=head_end) if is_readable else _CALL_AGAIN_REMEDY
    )
    note = _NOTE.format(count=tail_start - head_end, total=len(text), remedy=remedy)
    return replace_text(result, f"{text[:head_end]}{note}{text[tail_start:]}")


def is_shortened(text: str) -> bool:
    """Whether a text looks like that of a shortened result."""
    return _NOTE_PATTERN.search(text) is not None


def reads_tool_result(call: ToolCall) -> bool:
    """Whether a call is one of the tool that reads shortened results."""
    return (call.skill_name, call.tool_name) == (BASE_SKILL, READ_TOOL_RESULT)


def line_end(text: str, start: int, end: int) -> int:
    """The end of the last whole line of a range, or of the range if that would lose much of it."""
    newline = text.rfind("\n", start, end)
    return newline + 1 if newline >= start + (end - start) * 3 // 4 else end


def _line_start(text: str, start: int) -> int:
    newline = text.find("\n", start, start + (len(text) - start) // 4)
    return newline + 1 if newline >= 0 else start
