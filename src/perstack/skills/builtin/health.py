"""`healthCheck`."""

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perstack.models import FrozenModel
from perstack.skills.builtin.tool import BuiltInTool, ToolContext, ToolOutput, define_tool

MEBIBYTE = 1024 * 1024


class HealthCheckArguments(FrozenModel):
    """Arguments of `healthCheck`: none."""


async def health_check(context: ToolContext, raw: Mapping[str, Any]) -> ToolOutput:
    """Facts about this process."""
    HealthCheckArguments.model_validate(raw)
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
    """Memory in use now, where the system tells it."""
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
            {"properties": {}},
            effect="reads",
        ),
        HealthCheckArguments,
        health_check,
    ),
)
