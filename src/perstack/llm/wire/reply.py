"""Builds a `Generation` from what the adapters read, whole or piece by piece."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, cast
from uuid import uuid4

from perstack.core.messages import (
    Citation,
    FileInlinePart,
    FinishReason,
    ImageInlinePart,
    ProviderPart,
    ThinkingPart,
    ToolCallPart,
    Usage,
)
from perstack.runtime.ports import Deltas, Generation, ignore_usage
from perstack.text import replace_surrogates

JsonObject = dict[str, Any]


class InvalidReplyError(Exception):
    """A reply with a success status that cannot be read or is not complete."""


@dataclass(frozen=True, slots=True)
class FileReference:
    """A file that a tool of the provider made, and that the provider keeps.

    Attributes:
        id: The provider's name of it.
        path: Where its content is.
        name: What the tool called it, if that is known.
        facts_path: Where its name and its type are told instead.
    """

    id: str
    path: str
    name: str = ""
    facts_path: str | None = None


def parse_payload(payload: bytes) -> JsonObject:
    """The JSON object in a payload.

    Raises:
        InvalidReplyError: It is no JSON, or no object.
    """
    try:
        # Strict, where `json.loads` would let bytes pass that are not UTF-8.
        value: object = json.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidReplyError(f"a part of it is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise InvalidReplyError("a part of it is no JSON object")
    return cast("JsonObject", value)


def object_or_empty(value: object) -> JsonObject:
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def list_or_empty(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


def token_count(counts: object, name: str) -> int:
    """A count of an object of counts; 0 where it is missing. Some servers send it as text."""
    value: object = object_or_empty(counts).get(name)
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
    return int(cast("float", value)) if is_count else 0


class TextPieces:
    """A text that arrives in pieces, between which a surrogate pair may be split."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._held = ""

    def add(self, piece: str) -> str:
        """What may be shown now: the piece, with no half of a pair at its end."""
        piece = self._held + piece
        self._held = piece[-1] if "\ud800" <= piece[-1:] <= "\udbff" else ""
        shown = replace_surrogates(piece.removesuffix(self._held) if self._held else piece)
        self._pieces.append(shown)
        return shown

    def __str__(self) -> str:
        return "".join(self._pieces) + replace_surrogates(self._held)


_THINK_START, _THINK_END = "<think>", "</think>"


class ThinkTags:
    """Separates thinking that a model writes between tags at the beginning of its text."""

    def __init__(self) -> None:
        self._state: Literal["start", "thinking", "gap", "text"] = "start"
        self._held: str = ""

    def split(self, piece: str, *, is_last: bool = False) -> tuple[str, str]:
        """The thinking and the text that are certain with this piece."""
        if self._state == "gap" and (piece := piece.lstrip()):
            self._state = "text"
        if self._state in ("gap", "text"):
            return "", piece
        text = self._held + piece
        self._held = ""
        if self._state == "start":
            stripped = text.lstrip()
            if not stripped.startswith(_THINK_START):
                if _THINK_START.startswith(stripped) and not is_last:
                    self._held = text
                    return "", ""
                self._state = "text"
                return "", text
            self._state, text = "thinking", stripped.removeprefix(_THINK_START)
        thinking, end, rest = text.partition(_THINK_END)
        if end:
            self._state = "gap"
            return thinking, self.split(rest)[1]
        # The end tag may be split between two pieces.
        overlap = 0 if is_last else _overlap(text, _THINK_END)
        self._held = text[len(text) - overlap :]
        return text[: len(text) - overlap], ""


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of a text begin a tag."""
    return next(size for size in range(len(tag) - 1, -1, -1) if text.endswith(tag[:size]))


@dataclass(slots=True)
class _PartialCall:
    index: object
    id: str
    name: str
    arguments: list[str] = field(default_factory=list[str])

    @property
    def is_complete(self) -> bool:
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except (ValueError, RecursionError):
            return False

    def is_continued_by(self, index: object, call_id: str, name: str, arguments: str) -> bool:
        """Whether a piece that fits by id or index belongs to this call.

        Servers number several calls alike, give two calls one id, send an id with every piece, or
        repeat the name; only a piece with a name can begin another call.
        """
        if not name:
            return True
        if call_id and self.id and call_id != self.id:
            return False
        if index is not None and self.index is not None and index != self.index:
            return False
        if name == self.name and not arguments:
            return True
        has_arguments = any(self.arguments)
        return not self.is_complete and (not has_arguments or name == self.name)


class ReplyBuilder:
    """Collects one reply, and passes each delta on.

    Args:
        deltas: Receives text and thinking as they arrive.
        on_usage: Receives the tokens that are reported, as they grow.
        provider: Who replies.

    Attributes:
        citations: The sources of the text.
        media: The images and files that the model made.
        files: Those that the provider keeps.
    """

    def __init__(
        self,
        deltas: Deltas | None,
        on_usage: Callable[[Usage], None] = ignore_usage,
        provider: str = "",
    ) -> None:
        self._on_usage = on_usage
        self._provider = provider
        self._provider_part: ProviderPart | None = None
        self._deltas = deltas
        self._text = TextPieces()
        self._thinking: list[tuple[TextPieces, list[str]]] = []
        self._think_tags = ThinkTags()
        self._calls: list[_PartialCall] = []
        self.finish_reason: FinishReason | None = None
        self.usage = Usage()
        self.response_id: str | None = None
        self.response_model: str | None = None
        self.citations: list[Citation] = []
        self.media: list[ImageInlinePart | FileInlinePart] = []
        self.files: list[FileReference] = []

    def set_provider_content(self, content: JsonObject, tools: Iterable[str]) -> None:
        """Keep the reply in its own format, because the provider called these tools itself.

        Raises:
            InvalidReplyError: It is nested too deeply to be kept.
        """
        try:
            clean = cast("JsonObject", _without_lone_surrogates(content))
        except RecursionError:
            raise InvalidReplyError("it is nested too deeply") from None
        self._provider_part = ProviderPart(
            provider=self._provider, tools=tuple(tools), content=clean
        )

    def add_media(self, mime_type: str, encoded: str) -> None:
        """Add an image or a file, in base64."""
        kind = ImageInlinePart if mime_type.startswith("image/") else FileInlinePart
        self.media.append(kind(encoded_data=encoded, mime_type=mime_type))

    def add_text(self, piece: object, *, has_think_tags: bool = False) -> None:
        """Add a piece of text; with `has_think_tags`, thinking in tags is separated from it."""
        text = text_or_empty(piece)
        if has_think_tags:
            thinking, text = self._think_tags.split(text)
            self.add_thinking(thinking)
        shown = self._text.add(text) if text else ""
        if shown and self._deltas is not None:
            self._deltas.text(shown)

    def add_thinking(self, piece: object) -> None:
        """Add a piece to the last block of thinking, or begin the first."""
        text = text_or_empty(piece)
        if not text:
            return
        if not self._thinking:
            self.start_thinking()
        shown = self._thinking[-1][0].add(text)
        if shown and self._deltas is not None:
            self._deltas.reasoning(shown)

    def start_thinking(self) -> None:
        """Begin a further block of thinking."""
        self._thinking.append((TextPieces(), []))

    def add_signature(self, piece: object) -> None:
        """Add a piece of the signature of the last block of thinking."""
        if not self._thinking:
            self.start_thinking()
        self._thinking[-1][1].append(text_or_empty(piece))

    def add_call(
        self,
        arguments: object,
        *,
        index: object = None,
        call_id: object = None,
        name: object = None,
    ) -> None:
        """Add a tool call, or a piece of one; `arguments` is text or a whole object."""
        text = _arguments_text(arguments)
        call = self._find_call(index, text_or_empty(call_id), text_or_empty(name), text)
        call.id = call.id or text_or_empty(call_id)
        if not call.arguments and name != call.name:
            call.name += text_or_empty(name)
        if text:
            call.arguments.append(text)

    def start_call(self, arguments: object, *, call_id: object = None, name: object = None) -> None:
        """Add a tool call that is not continued."""
        pieces = [_arguments_text(arguments)]
        self._calls.append(_PartialCall(None, text_or_empty(call_id), text_or_empty(name), pieces))

    def _find_call(self, index: object, call_id: str, name: str, arguments: str) -> _PartialCall:
        by_id = [call for call in self._calls if call_id and call.id == call_id]
        by_index = [call for call in self._calls if index is not None and call.index == index]
        is_nameless = index is None and not call_id
        matches = by_id or by_index or (self._calls if is_nameless else [])
        if matches and matches[-1].is_continued_by(index, call_id, name, arguments):
            return matches[-1]
        self._calls.append(_PartialCall(index, "", ""))
        return self._calls[-1]

    def add_usage(self, usage: Usage) -> None:
        """Take counts, which arrive in parts and grow: the larger of each counts."""
        self.usage = merge_usage(self.usage, usage)
        self._on_usage(self.usage)

    def build(self, first_chunk_seconds: float | None = None) -> Generation:
        """The whole reply.

        Raises:
            InvalidReplyError: It has no finish reason.
        """
        if self.finish_reason is None:
            raise InvalidReplyError("the stream ended before the reply was finished")
        thinking, text = self._think_tags.split("", is_last=True)
        self.add_thinking(thinking)
        self.add_text(text)
        calls = tuple(self._tool_calls())
        is_plain_stop = self.finish_reason == "stop" and calls
        return Generation(
            text=str(self._text),
            citations=tuple(self.citations),
            provider_part=self._provider_part,
            media=tuple(self.media),
            thinking=tuple(
                ThinkingPart(thinking=str(pieces), signature="".join(signature) or None)
                for pieces, signature in self._thinking
            ),
            tool_calls=calls,
            # Some servers say `stop` although they call tools.
            finish_reason="toolCalls" if is_plain_stop else self.finish_reason,
            usage=self.usage,
            response_id=self.response_id,
            response_model=self.response_model,
            first_chunk_seconds=first_chunk_seconds,
        )

    def _tool_calls(self) -> list[ToolCallPart]:
        used_ids: set[str] = set()
        parts: list[ToolCallPart] = []
        for call in self._calls:
            # A result must name the call that it answers, and no other.
            call_id = replace_surrogates(call.id)
            if not call_id or call_id in used_ids:
                call_id = f"call_{uuid4().hex}"
            used_ids.add(call_id)
            args, error = parse_arguments("".join(call.arguments))
            parts.append(
                ToolCallPart(
                    tool_call_id=call_id,
                    tool_name=replace_surrogates(call.name),
                    args=args,
                    args_error=error,
                )
            )
        return parts


def usage_beside_cache(*, uncached: int, cached: int, created: int, output: int) -> Usage:
    """The counts of a provider that leaves tokens of its cache out of the input."""
    input_tokens = uncached + cached + created
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output,
        total_tokens=input_tokens + output,
        cached_input_tokens=cached,
        cache_creation_input_tokens=created,
    )


def merge_usage(one: Usage, other: Usage) -> Usage:
    """The maximum of each count: they arrive in parts and grow."""
    input_tokens = max(one.input_tokens, other.input_tokens)
    output_tokens = max(one.output_tokens, other.output_tokens)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reasoning_tokens=max(one.reasoning_tokens, other.reasoning_tokens),
        total_tokens=max(one.total_tokens, other.total_tokens, input_tokens + output_tokens),
        cached_input_tokens=max(one.cached_input_tokens, other.cached_input_tokens),
        cache_creation_input_tokens=max(
            one.cache_creation_input_tokens, other.cache_creation_input_tokens
        ),
    )


def _arguments_text(arguments: object) -> str:
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json.dumps(arguments)


def parse_arguments(arguments: object) -> tuple[JsonObject, str | None]:
    """The arguments of a call, as text or as an object, and why they are not valid, if so."""
    text = _arguments_text(arguments)
    if not text.strip():
        return {}, None
    try:
        value: object = json.loads(replace_surrogates(text), parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        return {}, f"The arguments are not valid JSON: {error}."
    if value is None:
        return {}, None
    if not isinstance(value, dict):
        return {}, "The arguments must be a JSON object."
    return cast("JsonObject", _without_lone_surrogates(cast("object", value))), None


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_SURROGATE_ESCAPE = re.compile(r"[\ud800-\udfff]")


def _without_lone_surrogates(value: object) -> object:
    if isinstance(value, str):
        return replace_surrogates(value) if _SURROGATE_ESCAPE.search(value) else value
    if isinstance(value, list):
        return [_without_lone_surrogates(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {replace_surrogates(key): _without_lone_surrogates(item) for key, item in items}
    return value
