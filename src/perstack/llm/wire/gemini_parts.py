"""The parts of one reply of Gemini as they came, for replies in which it called tools itself."""

from perstack.core.messages import Citation
from perstack.llm.wire.reply import (
    JsonObject,
    ReplyBuilder,
    list_or_empty,
    object_or_empty,
    text_or_empty,
    token_count,
)

_PLAIN_KEYS = frozenset({"text", "thought", "thoughtSignature", "functionCall"})
_METADATA = ("groundingMetadata", "urlContextMetadata")


class ProviderParts:
    """Collects the parts of a reply, and what is told of its sources."""

    def __init__(self) -> None:
        self._parts: list[JsonObject] = []
        self._metadata: JsonObject = {}

    def add(self, part: JsonObject, builder: ReplyBuilder) -> None:
        """Keep a part; the bytes of an image are handed over at once."""
        inline = object_or_empty(part.get("inlineData"))
        if data := text_or_empty(inline.get("data")):
            mime_type = text_or_empty(inline.get("mimeType")) or "application/octet-stream"
            builder.add_media(mime_type, data)
            part = {**part, "inlineData": {"mimeType": mime_type}}
        last = self._parts[-1] if self._parts else {}
        if part.keys() == {"text"} == last.keys():
            last["text"] += text_or_empty(part["text"])
        elif part:
            self._parts.append(dict(part))

    def add_metadata(self, candidate: JsonObject) -> None:
        """Keep what a candidate tells of its sources."""
        self._metadata |= {name: candidate[name] for name in _METADATA if candidate.get(name)}

    def hand_over(self, builder: ReplyBuilder) -> None:
        """Give the reply what is known so far, if it is more than text and calls."""
        if not self._metadata and all(part.keys() <= _PLAIN_KEYS for part in self._parts):
            return
        text = "".join(
            text_or_empty(part.get("text")) for part in self._parts if not part.get("thought")
        )
        grounding = object_or_empty(self._metadata.get("groundingMetadata"))
        builder.citations = _citations(grounding, text)
        builder.set_provider_content({"parts": self._parts, **self._metadata}, self._tools())

    def _tools(self) -> list[str]:
        calls = (object_or_empty(part.get("toolCall")) for part in self._parts)
        tools = [text_or_empty(call.get("toolType")).lower() for call in calls if call]
        tools += ["code_execution" for part in self._parts if "executableCode" in part]
        if not tools and "groundingMetadata" in self._metadata:
            tools.append("grounding")
        if not tools and "urlContextMetadata" in self._metadata:
            tools.append("url_context")
        return tools


def _citations(grounding: JsonObject, text: str) -> list[Citation]:
    chunks = list_or_empty(grounding.get("groundingChunks"))
    sources = [_source(object_or_empty(chunk)) for chunk in chunks]
    supports = [object_or_empty(each) for each in list_or_empty(grounding.get("groundingSupports"))]
    if not supports:
        return sources
    return [
        sources[index].model_copy(update=_span(object_or_empty(support.get("segment")), text))
        for support in supports
        for index in list_or_empty(support.get("groundingChunkIndices"))
        if isinstance(index, int) and 0 <= index < len(sources)
    ]


def _source(chunk: JsonObject) -> Citation:
    """A page, a place or a file."""
    source = object_or_empty(next(iter(chunk.values()), None))
    return Citation(
        url=text_or_empty(source.get("uri")) or None,
        title=text_or_empty(source.get("title")) or None,
        cited_text=text_or_empty(source.get("text")) or None,
    )


def _span(segment: JsonObject, text: str) -> dict[str, int]:
    """The place of a segment, which is told in bytes, in characters."""
    words = text_or_empty(segment.get("text"))
    before = text.encode("utf-8", "replace")[: token_count(segment, "startIndex")]
    start = len(before.decode("utf-8", "ignore"))
    if not text.startswith(words, start):
        start = text.find(words)
    is_found = bool(words) and start >= 0
    return {"start": start, "end": start + len(words)} if is_found else {}
