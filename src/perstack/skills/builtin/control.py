"""Tools about the run: four that the run answers itself, and `healthCheck`."""

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perstack.core.tools import ToolDefinition
from perstack.models import FrozenModel
from perstack.runtime.stored_results import ReadToolResultInput
from perstack.skills.builtin.tool import (
    PATTERN_RULES,
    BuiltInTool,
    ToolContext,
    ToolOutput,
    define_tool,
    parameter,
)

MEBIBYTE = 1024 * 1024

DEFINITIONS: tuple[ToolDefinition, ...] = (
    define_tool(
        "attemptCompletion",
        "Say that the task is done; nothing more is asked of you then. Refused, with the list of "
        "them, while todos are open.",
        {
            "result": parameter(
                "string",
                "The answer to the task, complete: nothing else is passed on. If left out, the "
                "text beside this call is the answer.",
            )
        },
        effect="reads",
    ),
    define_tool(
        "todo",
        "Keep a list of what is left to do. Adds items, marks items as completed, or both; without "
        "arguments it only shows the list.",
        {
            "newTodos": parameter("array", "Titles of items to add.", items={"type": "string"}),
            "completedTodos": parameter(
                "array", "Ids of items that are done.", items={"type": "integer"}
            ),
        },
        effect="reads",
    ),
    define_tool("clearTodo", "Empty the todo list.", {}, effect="reads"),
    define_tool(
        "readToolResult",
        "Read or search the whole of a tool's result that was shortened in this conversation. "
        "With a pattern, the places where it matches are returned, else the text from the offset.",
        {
            "toolCallId": parameter("string", "The id that stands in the shortened result."),
            "offset": parameter("integer", "Where to begin, in characters.", minimum=0, default=0),
            "limit": parameter(
                "integer", "Characters to return; as many as fit if left out.", minimum=1
            ),
            "pattern": parameter(
                "string", f"A regular expression to search for, line by line. {PATTERN_RULES}"
            ),
            "ignoreCase": parameter("boolean", "Whether case does not matter.", default=False),
        },
        ReadToolResultInput,
        effect="reads",
    ),
)
"""They change nothing outside the run, so they count as reading and can be repeated."""


async def health_check(context: ToolContext, raw: Mapping[str, Any]) -> ToolOutput:
    FrozenModel.model_validate(raw)
    peak = _peak_memory_bytes()
    return {
        "status": "ok",
        "workspace": str(context.workspace.root),
        "uptime": f"{int(context.monotonic() - context.started_at)}s",
        "memory": {
            "heapUsed": _format_megabytes(_memory_bytes() or peak),
            "heapTotal": _format_megabytes(peak),
        },
        "pid": os.getpid(),
    }


def _memory_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _format_megabytes(size: int) -> str:
    return f"{round(size / MEBIBYTE)}MB"


TOOLS = (
    BuiltInTool(
        define_tool(
            "healthCheck",
            "Check that the tools work, and get facts about the process that runs them.",
            {},
            effect="reads",
        ),
        FrozenModel,
        health_check,
    ),
)
