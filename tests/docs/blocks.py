"""The fenced code blocks of a Markdown text."""

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int


def blocks(markdown: str) -> list[Block]:
    """All fenced blocks, in order."""
    return [
        Block(match[1], match[2], markdown.count("\n", 0, match.start()) + 1)
        for match in _FENCE.finditer(markdown)
    ]


def commands(block: Block) -> list[str]:
    """The commands of a shell block, without comments."""
    lines = (re.sub(r"\s+#.*$", "", line).strip() for line in block.text.splitlines())
    return [line for line in lines if line]
