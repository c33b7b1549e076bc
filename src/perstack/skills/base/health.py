"""`healthCheck`."""

import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perstack.definition.record import Record
from perstack.skills.base.tool import Answer, BuiltInTool, Surroundings, define

MEBIBYTE = 1024 * 1024


class HealthCheck(Record):
    """Arguments of `healthCheck`: none."""


async def health_check(surroundings: Surroundings, raw: Mapping[str, Any]) -> Answer:
    """Facts about this process."""
    HealthCheck.model_validate(raw)
    peak = _peak_memory_bytes()
    return {
        "status": "ok",
        "workspace": str(surroundings.workspace.root),
        "uptime": f"{int(surroundings.monotonic() - surroundings.started_seconds)}s",
        "memory": {
            "heapUsed": _in_megabytes(_memory_bytes() or peak),
            "heapTotal": _in_megabytes(peak),
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


def _in_megabytes(size: int) -> str:
    return f"{round(size / MEBIBYTE)}MB"


TOOLS = (
    BuiltInTool(
        define(
            "healthCheck",
            "Check that the tools work, and get facts about the process that runs them.",
            {"properties": {}},
            effect="reads",
        ),
        HealthCheck,
        health_check,
    ),
)
