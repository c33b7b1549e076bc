"""Messages, their parts, tool calls and token usage: the values a conversation is made of."""

import json
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field

from perstack.models import FrozenModel

# `json.dumps` would make an encoder for each call of a long conversation.
_to_json = json.JSONEncoder(ensure_ascii=False).encode

FinishReason = Literal["stop", "toolCalls", "length", "contentFilter", "paused", "other"]
"""Why a model ended its reply; one that is `paused` is to be asked to go on."""


class Citation(FrozenModel):
    """A source of a text.

    Attributes:
        url: Its address.
        title: Its title, or the name of the file.
        cited_text: What it says.
        start: Where in the text the words begin that it is the source of, in characters.
        end: Where they end.
    """

    url: str | None = None
    title: str | None = None
    cited_text: str | None = None
    start: int | None = None
    end: int | None = None


class TextPart(FrozenModel):
    """Plain text, and its sources where a model tells them."""

    type: Literal["textPart"] = "textPart"
    text: str
    citations: tuple[Citation, ...] | None = None


class ImageUrlPart(FrozenModel):
    """An image that the model fetches from a public address."""

    type: Literal["imageUrlPart"] = "imageUrlPart"
    url: str
    mime_type: str


class ImageInlinePart(FrozenModel):
    """An image inside the message, base64."""

    type: Literal["imageInlinePart"] = "imageInlinePart"
    encoded_data: str
    mime_type: str


class ImageBinaryPart(FrozenModel):
    """An image as a caller's binary variant carries it (base64 in JSON)."""

    type: Literal["imageBinaryPart"] = "imageBinaryPart"
    data: str
    mime_type: str


class FileUrlPart(FrozenModel):
    """A file that the model fetches from a public address."""

    type: Literal["fileUrlPart"] = "fileUrlPart"
    url: str
    mime_type: str


class FileInlinePart(FrozenModel):
    """A file inside the message, base64."""

    type: Literal["fileInlinePart"] = "fileInlinePart"
    encoded_data: str
    mime_type: str


class FileBinaryPart(FrozenModel):
    """A file as a caller's binary variant carries it (base64 in JSON)."""

    type: Literal["fileBinaryPart"] = "fileBinaryPart"
    data: str
    mime_type: str


class ThinkingPart(FrozenModel):
    """What the model thought.

    Sent back with its signature so that the provider accepts the history.
    """

    type: Literal["thinkingPart"] = "thinkingPart"
    thinking: str
    signature: str | None = None


class ProviderPart(FrozenModel):
    """A reply in which the provider called tools itself, as its own format has it.

    Only the provider that made it can read it, and wants it back as it was.

    Attributes:
        provider: Who made it.
        tools: The tools that were called, in order.
        content: The whole reply, but for the bytes of images, which are parts of their own.
    """

    type: Literal["providerPart"] = "providerPart"
    provider: str
    tools: tuple[str, ...] = ()
    content: dict[str, Any]


class ToolCallPart(FrozenModel):
    """One tool call the model asks for.

    `args_error` says why the arguments could not be read; `args` is then empty and the call is
    answered with that reason.
    """

    type: Literal["toolCallPart"] = "toolCallPart"
    tool_call_id: str
    tool_name: str
    args: dict[str, Any] = Field(default_factory=dict)
    args_error: str | None = None

    @cached_property
    def args_json(self) -> str:
        """The arguments as JSON text.

        Kept, because each generation that follows sends it again.
        """
        return _to_json(self.args)


ResultPart = Annotated[TextPart | ImageInlinePart | FileInlinePart, Field(discriminator="type")]


class ToolResultPart(FrozenModel):
    """The answer to one tool call."""

    type: Literal["toolResultPart"] = "toolResultPart"
    tool_call_id: str
    tool_name: str
    contents: tuple[ResultPart, ...]
    is_error: bool = False


UserPart = Annotated[
    TextPart
    | ImageUrlPart
    | ImageInlinePart
    | ImageBinaryPart
    | FileUrlPart
    | FileInlinePart
    | FileBinaryPart,
    Field(discriminator="type"),
]
ExpertPart = Annotated[
    ThinkingPart | ProviderPart | TextPart | ImageInlinePart | FileInlinePart | ToolCallPart,
    Field(discriminator="type"),
]


ExpertMedia = ImageInlinePart | FileInlinePart


def media_note(part: ExpertMedia) -> str:
    """What stands for an image or a file where only text can."""
    return f"[content of type {part.mime_type}]"


class InstructionMessage(FrozenModel):
    """The system prompt of a run.

    `stable` is byte-identical for every step and job; `volatile` holds time and place.
    """

    type: Literal["instructionMessage"] = "instructionMessage"
    stable: str
    volatile: str = ""


class UserMessage(FrozenModel):
    """What the caller, or the runtime in its place, says to the expert."""

    type: Literal["userMessage"] = "userMessage"
    contents: tuple[UserPart, ...]


class ExpertMessage(FrozenModel):
    """What the model said.

    Thinking, then what the provider's tools did, then text, images and files, then tool calls (the
    order that providers demand back). Text and calls are told apart once, because each generation
    that follows asks for them again.
    """

    type: Literal["expertMessage"] = "expertMessage"
    contents: tuple[ExpertPart, ...]

    @cached_property
    def text(self) -> str:
        """All text parts, joined."""
        return "".join(part.text for part in self.contents if isinstance(part, TextPart))

    @property
    def citations(self) -> tuple[Citation, ...]:
        """The sources of the text."""
        texts = (part for part in self.contents if isinstance(part, TextPart))
        return tuple(citation for text in texts for citation in text.citations or ())

    @cached_property
    def provider_part(self) -> ProviderPart | None:
        """What the provider's tools did, if it called any."""
        return next((part for part in self.contents if isinstance(part, ProviderPart)), None)

    @property
    def media(self) -> tuple[ExpertMedia, ...]:
        """The images and files that the model made."""
        return tuple(part for part in self.contents if isinstance(part, ExpertMedia))

    @cached_property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        """The tool calls, in the model's order."""
        return tuple(part for part in self.contents if isinstance(part, ToolCallPart))


class ToolMessage(FrozenModel):
    """The results of all tool calls of the expert message before it, in call order."""

    type: Literal["toolMessage"] = "toolMessage"
    contents: tuple[ToolResultPart, ...]


Message = Annotated[
    InstructionMessage | UserMessage | ExpertMessage | ToolMessage, Field(discriminator="type")
]

ToolKind = Literal["mcp", "delegate", "interactive"]


class ToolCall(FrozenModel):
    """A tool call that was matched with its tool, and what kind of tool that is.

    `answer_schema` is the form of the user's answer, if the tool is a question that has one.
    """

    id: str
    skill_name: str
    tool_name: str
    args: dict[str, Any] = Field(default_factory=dict)
    args_error: str | None = None
    kind: ToolKind = "mcp"
    answer_schema: dict[str, Any] | None = None


class ToolResult(FrozenModel):
    """The result of one tool call."""

    id: str
    skill_name: str
    tool_name: str
    result: tuple[ResultPart, ...]
    is_error: bool = False

    @property
    def text(self) -> str:
        """The text parts, joined by newlines."""
        return "\n".join(part.text for part in self.result if isinstance(part, TextPart))


def tool_result(
    call: ToolCall, parts: tuple[ResultPart, ...], *, is_error: bool = False
) -> ToolResult:
    return ToolResult(
        id=call.id,
        skill_name=call.skill_name,
        tool_name=call.tool_name,
        result=parts,
        is_error=is_error,
    )


def replace_text(result: ToolResult, text: str) -> ToolResult:
    """The result with one text in place of all its texts; other parts, such as images, are kept."""
    others = (part for part in result.result if not isinstance(part, TextPart))
    return result.model_copy(update={"result": (TextPart(text=text), *others)})


def text_result(call: ToolCall, text: str, *, is_error: bool = False) -> ToolResult:
    return tool_result(call, (TextPart(text=text),), is_error=is_error)


class Usage(FrozenModel):
    """Tokens of one or several generations, and what they cost.

    Attributes:
        input_tokens: Includes those that were cached, and those that were put into a cache.
        cost_usd: US dollars; `None` if the price of some tokens is not known.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_creation_input_tokens=self.cache_creation_input_tokens
            + other.cache_creation_input_tokens,
            cost_usd=_add_costs(self, other),
        )

    @property
    def cache_hit_rate(self) -> float:
        """The part of the input that the provider had cached, from 0 to 1."""
        return self.cached_input_tokens / self.input_tokens if self.input_tokens else 0.0


def _add_costs(one: Usage, other: Usage) -> float | None:
    """The sum; what has no tokens costs nothing."""
    costs = [usage.cost_usd for usage in (one, other) if usage.total_tokens or usage.cost_usd]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known and len(known) == len(costs) else None
