"""The commands of the README and of all pages, as a reader would type them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.blocks import blocks

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROMPT = "$ "


@dataclass(frozen=True, slots=True)
class Written:
    """A command as a page has it."""

    page: str
    line: int
    text: str

    @property
    def programs(self) -> list[list[str]]:
        """The words of each program of a pipe, without where its output goes."""
        lexer = shlex.shlex(self.text, posix=True, punctuation_chars="|>")
        lexer.whitespace_split = True
        programs: list[list[str]] = [[]]
        for word in lexer:
            if word == "|":
                programs.append([])
            elif word in (">", ">>"):
                break
            elif programs[-1] or "=" not in word:
                programs[-1].append(word)
        return programs


def written() -> Iterator[Written]:
    """The commands of all pages: of shell blocks, and after the prompts of consoles."""
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8")):
            if block.language not in ("sh", "console"):
                continue
            text = re.sub(r"\\\n\s*", "", block.text)
            lines = [re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines()]
            has_prompts = any(line.startswith(PROMPT) for line in lines)
            for line in lines:
                if line.startswith(PROMPT) or (line and not has_prompts):
                    yield Written(page.name, block.line, line.removeprefix(PROMPT))


WRITTEN = list(written())
