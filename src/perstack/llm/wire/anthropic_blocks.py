"""The blocks of a reply of Anthropic as they came, for replies in which it called tools itself."""

from urllib.parse import quote

from perstack.core.messages import Citation
from perstack.llm.wire.reply import (
    FileReference,
    JsonObject,
    ReplyBuilder,
    list_or_empty,
    object_or_empty,
    parse_arguments,
    text_or_empty,
)
from perstack.text import replace_surrogates

_PLAIN_TYPES = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_TEXT_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class ProviderBlocks:
    """Puts the blocks of a reply together again."""

    def __init__(self) -> None:
        self._blocks: dict[object, JsonObject] = {}
        self._inputs: dict[object, list[str]] = {}
        self._container: JsonObject = {}

    def set_container(self, container: object) -> None:
        """Keep where code was executed, if it was."""
        if text_or_empty(object_or_empty(container).get("id")):
            self._container = object_or_empty(container)

    def start(self, block: JsonObject, index: object) -> None:
        """Begin a block, or take a whole one."""
        self._blocks[index] = dict(block)

    def add_delta(self, delta: JsonObject, index: object) -> object:
        """Add a piece to a block; returns the type of the block."""
        block, kind = self._blocks.get(index, {}), delta.get("type")
        if kind in _TEXT_DELTAS:
            field = _TEXT_DELTAS[str(kind)]
            block[field] = text_or_empty(block.get(field)) + text_or_empty(delta.get(field))
        elif kind == "citations_delta":
            block["citations"] = [*list_or_empty(block.get("citations")), delta.get("citation")]
        elif kind == "input_json_delta":
            self._inputs.setdefault(index, []).append(text_or_empty(delta.get("partial_json")))
        return block.get("type")

    def finish(self, builder: ReplyBuilder) -> None:
        """Hand the citations over, and the blocks if one of them is more than text and calls."""
        for index, pieces in self._inputs.items():
            if index in self._blocks and any(pieces):
                self._blocks[index]["input"] = parse_arguments("".join(pieces))[0]
        blocks = [block for block in self._blocks.values() if text_or_empty(block.get("type"))]
        builder.citations += _citations(blocks)
        builder.files += _files(blocks)
        if self._container or builder.citations or any(map(_is_of_provider, blocks)):
            container = {"container": self._container} if self._container else {}
            calls = (block for block in blocks if block["type"] == "server_tool_use")
            tools = [text_or_empty(call.get("name")) for call in calls]
            builder.set_provider_content({"content": blocks, **container}, tools)


def _is_of_provider(block: JsonObject) -> bool:
    return block["type"] not in _PLAIN_TYPES


def _files(blocks: list[JsonObject]) -> list[FileReference]:
    """The files that code has written."""
    results = [object_or_empty(block.get("content")) for block in blocks]
    outputs = [each for result in results for each in list_or_empty(result.get("content"))]
    ids = [text_or_empty(object_or_empty(output).get("file_id")) for output in outputs]
    paths = {file_id: f"/v1/files/{quote(file_id, safe='')}" for file_id in ids if file_id}
    return [
        FileReference(file_id, f"{path}/content", facts_path=path)
        for file_id, path in paths.items()
    ]


def _citations(blocks: list[JsonObject]) -> list[Citation]:
    """The sources of each text block, which is the part of the text that they are of."""
    citations: list[Citation] = []
    start = 0
    for block in blocks:
        if block["type"] != "text":
            continue
        end = start + len(replace_surrogates(text_or_empty(block.get("text"))))
        sources = map(object_or_empty, list_or_empty(block.get("citations")))
        citations += [_citation(source, start, end) for source in sources]
        start = end
    return citations


def _citation(source: JsonObject, start: int, end: int) -> Citation:
    return Citation(
        url=text_or_empty(source.get("url") or source.get("source")) or None,
        title=text_or_empty(source.get("title") or source.get("document_title")) or None,
        cited_text=text_or_empty(source.get("cited_text")) or None,
        start=start,
        end=end,
    )
