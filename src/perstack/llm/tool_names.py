"""Tool names as providers accept them: `[a-zA-Z0-9_-]`, at most 64 characters."""

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

from perstack.core.tools import ToolDefinition

_ACCEPTED = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_REFUSED_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")
_MAX_LENGTH = 64
_MARK_LENGTH = 8


@lru_cache(maxsize=1024)
def wire_name(name: str) -> str:
    """The name that goes to the provider: the tool's own where it fits.

    Depends on the name alone, so that a tool keeps its wire name over a whole conversation,
    whatever other tools there are.
    """
    if _ACCEPTED.fullmatch(name):
        return name
    mark = sha256(name.encode()).hexdigest()[:_MARK_LENGTH]
    readable = _REFUSED_CHARACTER.sub("_", name)[: _MAX_LENGTH - _MARK_LENGTH - 1]
    return f"{readable}_{mark}"


def original_names(tools: Iterable[ToolDefinition]) -> dict[str, str]:
    """Wire name → tool name, for the tools whose names differ."""
    return {wire: tool.name for tool in tools if (wire := wire_name(tool.name)) != tool.name}
