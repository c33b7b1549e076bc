"""What the fake model says, in terms that no provider owns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "tool_calls", "length", "content_filter"]


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool.

    Attributes:
        name: The tool's name as the request offered it.
        arguments: An object, or a string that goes out as it is, for arguments that are not JSON.
            Formats that carry arguments as an object (Gemini, Ollama, Anthropic unstreamed) then
            get the string in the object's place.
        id: The call's id; made from the request's number when absent.
        namespace: Where the tool was offered (Responses); looked up in the request when absent.
    """

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict[str, Any])
    id: str | None = None
    namespace: str | None = None

    @property
    def arguments_json(self) -> str:
        """The arguments as they stand on the wire of formats that send a string."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True)
class Usage:
    """Token counts; each dialect splits or sums them as its provider does.

    Attributes:
        input_tokens: All input, with what was read from and written to a cache.
        output_tokens: All output, with reasoning.
        cached_tokens: Part of the input that was read from a cache.
        cache_write_tokens: Part of the input that was written to a cache (Anthropic only).
        reasoning_tokens: Part of the output (not told by Anthropic and Ollama).
    """

    input_tokens: int = 11
    output_tokens: int = 7
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Reply:
    """One whole answer of the model.

    Attributes:
        text: What it says.
        thinking: What it thinks first; left out when empty.
        signature: Provider's seal on the thinking (Anthropic, Gemini, Responses).
        tool_calls: Calls in order; several are parallel calls.
        finish: Why it stopped; by default "tool_calls" with calls and "stop" without.
        usage: Token counts.
        pieces: Into how many deltas a stream cuts a text (and a call's arguments), at most.
    """

    text: str = ""
    thinking: str = ""
    signature: str = "c2lnbmF0dXJl"
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish | None = None
    usage: Usage = Usage()
    pieces: int = 2

    @property
    def finish_reason(self) -> Finish:
        """The given reason, or the one that follows from the content."""
        return self.finish or ("tool_calls" if self.tool_calls else "stop")

    def cut(self, text: str) -> list[str]:
        """The text in at most `pieces` parts, none of them empty."""
        size = max(1, -(-len(text) // max(1, self.pieces)))
        return [text[start : start + size] for start in range(0, len(text), size)]


@dataclass(frozen=True)
class Verbatim:
    """A reply in the provider's own format, for what that alone has.

    Attributes:
        whole: The body of an unstreamed answer.
        events: The events of a streamed one.
    """

    whole: Mapping[str, Any]
    events: tuple[Mapping[str, Any], ...]


def call(name: str, /, **arguments: Any) -> Reply:
    """A reply that calls one tool."""
    return Reply(tool_calls=(ToolCall(name, arguments),))
