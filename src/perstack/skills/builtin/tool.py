"""What a built-in tool is made of: how the model sees it, and what answers a call."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import anyio
from anyio import to_thread
from pydantic import AfterValidator, StringConstraints

from perstack.core.messages import ResultPart, TextPart
from perstack.core.tools import ToolDefinition
from perstack.definition.references import BASE_SKILL
from perstack.models import FrozenModel
from perstack.skills.builtin.workspace import Workspace
from perstack.skills.subprocesses import Launcher
from perstack.text import replace_surrogates

Schema = dict[str, Any]
JsonObject = dict[str, Any]
ToolOutput = JsonObject | tuple[ResultPart, ...]
ArgumentsT = TypeVar("ArgumentsT", bound=FrozenModel)


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What the tools of one job work on.

    `write_lock` is held by a tool that changes files: two edits of one file in one message must not
    overwrite each other, and they take effect in the order in which they were asked for.
    """

    workspace: Workspace
    environment: Mapping[str, str] = field(repr=False)
    launcher: Launcher = field(default_factory=Launcher)
    monotonic: Callable[[], float] = time.monotonic
    started_at: float = 0.0
    write_lock: anyio.Lock = field(default_factory=anyio.Lock)


ToolHandler = Callable[[ToolContext, Mapping[str, Any]], Awaitable[ToolOutput]]


@dataclass(frozen=True, slots=True)
class BuiltInTool:
    """A tool of the base skill: its definition, the shape of its arguments, and what answers it."""

    definition: ToolDefinition
    arguments: type[FrozenModel]
    handler: ToolHandler


def define_tool(
    name: str, description: str, schema: Schema, *, effect: str = "changes"
) -> ToolDefinition:
    """How the model sees a tool.

    Args:
        name: What the model calls.
        description: For the model.
        schema: `properties` and `required` of the arguments.
        effect: `reads`, `repeatable` (changes something, but twice is the same as once) or
            `changes`.
    """
    return ToolDefinition(
        skill_name=BASE_SKILL,
        name=name,
        description=description,
        input_schema={
            "type": "object",
            "additionalProperties": False,
            **schema,
        },
        is_read_only=effect == "reads",
        is_repeatable=effect != "changes",
    )


def workspace_tool(
    definition: ToolDefinition,
    arguments: type[ArgumentsT],
    operation: Callable[[Workspace, ArgumentsT], ToolOutput],
) -> BuiltInTool:
    """A tool that works on files, in a worker thread; those that change any run one at a time."""

    async def handle(context: ToolContext, args: Mapping[str, Any]) -> ToolOutput:
        validated = arguments.model_validate(args)
        async with nullcontext() if definition.is_read_only else context.write_lock:
            return await to_thread.run_sync(operation, context.workspace, validated)

    return BuiltInTool(definition, arguments, handle)


def json_part(value: JsonObject) -> TextPart:
    """Facts in the form in which every built-in tool answers: one JSON object."""
    # A file name on the disk need not be Unicode, but a message must be.
    return TextPart(text=replace_surrogates(json.dumps(value, ensure_ascii=False)))


def _check_unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half of a surrogate pair") from None
    return text


def _check_no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the NUL character")
    return text


FileText = Annotated[str, AfterValidator(_check_unicode)]
"""A text that can be written to a file."""

SystemText = Annotated[FileText, AfterValidator(_check_no_nul)]
"""A text that is handed to the operating system, which cannot take a NUL in it."""

PathText = Annotated[SystemText, StringConstraints(min_length=1)]


class PathArguments(FrozenModel):
    """Arguments that are a path and nothing else."""

    path: PathText


PATH_RULES = "Relative to the workspace, or absolute and inside it."


def path_property(description: str) -> Schema:
    """The schema of a path argument."""
    return {"type": "string", "minLength": 1, "description": f"{description}. {PATH_RULES}"}


def path_schema(description: str) -> Schema:
    """The schema of arguments that are a path and nothing else."""
    return {"properties": {"path": path_property(description)}, "required": ["path"]}
