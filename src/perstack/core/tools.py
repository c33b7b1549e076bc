"""A tool as a model is shown it."""

from dataclasses import dataclass
from typing import Any

from perstack.core.messages import ToolKind


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool as the model is shown it.

    `name` is what the model calls; `skill_name` says where it comes from. `is_repeatable` means
    that the tool declares itself read-only or idempotent, so a call of unknown outcome may be made
    again.
    """

    skill_name: str
    name: str
    description: str
    input_schema: dict[str, Any]
    kind: ToolKind = "mcp"
    is_read_only: bool = False
    is_repeatable: bool = False
