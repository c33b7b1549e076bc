"""How a built-in tool is defined: what the model sees, and what handles a call."""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

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
PATH_RULES = "Relative to the workspace, or absolute and inside it."
PATTERN_RULES = "No look-around, no backreferences."
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


@dataclass(frozen=True, slots=True)
class BuiltInTool:
    """A tool of the base skill: its definition, its arguments, and what handles a call."""

    definition: ToolDefinition
    arguments: type[FrozenModel]
    handler: Callable[[ToolContext, Mapping[str, Any]], Awaitable[ToolOutput]]


def define_tool(
    name: str,
    description: str,
    properties: Schema,
    arguments: type[FrozenModel] = FrozenModel,
    effect: Literal["reads", "repeatable", "changes"] = "changes",
) -> ToolDefinition:
    """The definition of a tool, as the model sees it.

    Args:
        name: What the model calls.
        description: For the model.
        properties: The schemas of its arguments.
        arguments: Says which of them are required.
        effect: `repeatable` if it changes something, but twice is the same as once.
    """
    required = [
        field.alias or key for key, field in arguments.model_fields.items() if field.is_required()
    ]
    return ToolDefinition(
        skill_name=BASE_SKILL,
        name=name,
        description=description,
        input_schema={
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
            **({"required": required} if required else {}),
        },
        is_read_only=effect == "reads",
        is_repeatable=effect != "changes",
    )


def workspace_tool(
    operation: Callable[[Workspace, ArgumentsT], ToolOutput],
    arguments: type[ArgumentsT],
    name: str,
    description: str,
    properties: Schema,
    *,
    effect: Literal["reads", "repeatable", "changes"] = "changes",
) -> BuiltInTool:
    """A tool that works on files, in a worker thread; tools that change files run one at a time."""

    async def handle(context: ToolContext, args: Mapping[str, Any]) -> ToolOutput:
        validated = arguments.model_validate(args)
        async with nullcontext() if effect == "reads" else context.write_lock:
            return await to_thread.run_sync(operation, context.workspace, validated)

    definition = define_tool(name, description, properties, arguments, effect)
    return BuiltInTool(definition, arguments, handle)


def parameter(kind: str, description: str, **keywords: object) -> Schema:
    return {"type": kind, **keywords, "description": description}


def path_parameter(description: str) -> Schema:
    return parameter("string", f"{description}. {PATH_RULES}", minLength=1)


def json_part(value: JsonObject) -> TextPart:
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
"""A text for the operating system, which accepts no NUL in it."""

PathText = Annotated[SystemText, StringConstraints(min_length=1)]


class PathArguments(FrozenModel):
    path: PathText
