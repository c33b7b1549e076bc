"""What a client asked, in terms that no provider owns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.model_server.json_values import JsonObject
from tests.model_server.reply import ToolCall

DialectName = Literal["openai_chat", "openai_responses", "anthropic", "bedrock", "gemini", "ollama"]
Role = Literal["user", "note", "assistant", "tool"]

# Coding agents put these beside or after tool results, where only a human turn would otherwise be.
_NOTE_STARTS = ("<system-reminder>", "<environment_context>", "<session_context>")


@dataclass(frozen=True)
class Message:
    """One turn; system text stands in `Request.system`.

    Attributes:
        role: "note" is text in the user's place that the client program wrote itself.
        text: Its text parts on lines of their own; a tool's result for role "tool".
        tool_calls: Calls of an assistant turn.
        thinking: Thinking of an assistant turn, where the client sent it back.
        tool_call_id: Which call a result answers ("" in Gemini and Ollama).
        tool_name: Which tool a result comes from, where the format says it.
    """

    role: Role
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    thinking: str = ""
    tool_call_id: str = ""
    tool_name: str = ""


@dataclass(frozen=True)
class Tool:
    """A tool as offered; `namespace` only where Responses groups tools."""

    name: str
    namespace: str | None = None
    description: str = ""


@dataclass(frozen=True)
class Conversation:
    """What a dialect reads from a body."""

    model: str
    system: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...]
    is_stream: bool


@dataclass(frozen=True)
class Request:
    """One model call.

    Attributes:
        number: 1 for the server's first model call.
        dialect: The wire format.
        conversation: The neutral reading of the body.
        path: Path with its query.
        headers: By lower-case name.
        raw: The body's bytes, decompressed.
        body: The body's JSON; empty where it is not an object.
        received_at: `time.monotonic()` when the body was complete.
    """

    number: int
    dialect: DialectName
    conversation: Conversation
    path: str
    headers: Mapping[str, str]
    raw: bytes
    body: JsonObject
    received_at: float

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return self.conversation.model

    @property
    def system(self) -> str:
        """The system prompt, all parts."""
        return self.conversation.system

    @property
    def messages(self) -> tuple[Message, ...]:
        """The turns in order."""
        return self.conversation.messages

    @property
    def is_stream(self) -> bool:
        """Whether a streamed answer was asked for."""
        return self.conversation.is_stream

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that were offered."""
        return self.conversation.tools

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The names of the tools that were offered."""
        return tuple(tool.name for tool in self.tools)

    @property
    def last_user_text(self) -> str:
        """The newest user turn, "" when there is none."""
        texts = [message.text for message in self.messages if message.role == "user"]
        return texts[-1] if texts else ""

    @property
    def tool_results(self) -> tuple[Message, ...]:
        """The tool results after the newest user turn."""
        results: list[Message] = []
        for message in reversed(self.messages):
            if message.role == "user":
                break
            if message.role == "tool":
                results.append(message)
        return tuple(reversed(results))

    def namespace_of(self, tool_name: str) -> str | None:
        """The namespace in which a tool was offered."""
        return next((tool.namespace for tool in self.tools if tool.name == tool_name), None)


def user_messages(parts: Iterable[str]) -> list[Message]:
    """A user turn's text parts: notes of the client program apart from what the user says."""
    messages: list[Message] = []
    said: list[str] = []
    for part in parts:
        if part.lstrip().startswith(_NOTE_STARTS):
            messages.append(Message("note", part))
        else:
            said.append(part)
    if said:
        messages.append(Message("user", "\n".join(said)))
    return messages
