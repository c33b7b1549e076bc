"""Tool definitions for models, and messages about invalid arguments."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from perstack.core.messages import ToolKind


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ToolDefinition:
    """A tool as the model is shown it.

    `name` is what the model calls; `skill_name` says where it comes from. `is_repeatable` means
    that the tool declares itself read-only or idempotent, so a call of unknown outcome may be made
    again. `answer_schema` is the form of what the user answers to a call of kind `interactive`.
    """

    skill_name: str
    name: str
    description: str
    input_schema: dict[str, Any]
    kind: ToolKind = "mcp"
    is_read_only: bool = False
    is_repeatable: bool = False
    answer_schema: dict[str, Any] | None = None


def describe_validation_error(error: ValidationError) -> str:
    """What is wrong with the arguments, each problem with the field that has it."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False, include_context=False)
    )
