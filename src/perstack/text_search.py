"""Search in text by a regular expression that a model wrote, in time linear in the text.

`re` can take for ever over a pattern such as `(a+)+$`, and holds up the whole process meanwhile.
The engine behind pydantic's string patterns does not go back, but it says only whether a text
matches, so the place is found by asking about its beginnings.
"""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic_core import SchemaError, SchemaValidator, core_schema

MAX_PATTERN_CHARACTERS = 500
MAX_PATTERN_SIZE = 500
"""In characters, with what is in `{n}` counted n times: the work for each character of the text."""

EXCERPT_CHARACTERS = 300
"""A line that is longer is searched in pieces, at whose ends `^` and `$` match as well."""

PIECE_CHARACTERS = 2_000
OVERLAP_CHARACTERS = 500
"""What a piece has in common with the one before it; a longer match may be missed."""

SYNTAX_HINT = (
    "Look-around and backreferences are not supported; "
    "write \\ before a character such as ( [ { . * + ? | that means itself."
)

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(\d+)(?:,(\d*))?\}|.", re.DOTALL)

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class LineMatch:
    """A line with a match, or the part of a long line that has one.

    Attributes:
        line: The number of the line, counted from 0.
        offset: Where in the text the excerpt begins, in characters from 0.
        excerpt: The line or the part.
    """

    line: int
    offset: int
    excerpt: str


class SearchTimeoutError(Exception):
    """The time for a search was up; `offset` is how far it came, in characters."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the search stopped at offset {offset}")
        self.offset = offset


class SearchPattern:
    """A regular expression, compiled.

    Raises:
        ValueError: It is none, or too large; says why.
    """

    def __init__(self, pattern: str, *, ignores_case: bool = False) -> None:
        if len(pattern) > MAX_PATTERN_CHARACTERS:
            raise ValueError(
                f"has {len(pattern):,} characters; at most {MAX_PATTERN_CHARACTERS} are allowed"
            )
        if _expanded_size(pattern) > MAX_PATTERN_SIZE:
            raise ValueError("repeats too much; use smaller numbers in {…}, or + or *")
        schema = core_schema.str_schema(pattern=f"(?i){pattern}" if ignores_case else pattern)
        try:
            self._validator = SchemaValidator(schema)
        except SchemaError as error:
            reason = str(error).strip().splitlines()[-1].strip().removeprefix("error: ")
            raise ValueError(f"is no valid regular expression ({reason}). {SYNTAX_HINT}") from None

    def matches(self, text: str) -> bool:
        """Whether the pattern matches anywhere."""
        return self._validator.isinstance_python(text)

    def search(
        self, text: str, start: int = 0, *, deadline: float = math.inf
    ) -> Iterator[LineMatch]:
        """The lines with a match, from the one that `start` is in on.

        A long line is searched from `start` itself, and each place in it counts.

        Args:
            text: Where to search. Lines end with LF.
            start: In characters.
            deadline: When to give up, by `time.monotonic`.

        Raises:
            SearchTimeoutError: The deadline has passed.
        """
        text = _LONE_SURROGATE.sub("\ufffd", text)  # nothing matches a text that has one
        offset = text.rfind("\n", 0, start) + 1
        number = text.count("\n", 0, offset)
        while offset < len(text):
            newline = text.find("\n", offset)
            end = len(text) if newline < 0 else newline
            if end - offset > EXCERPT_CHARACTERS:
                yield from self._search_long_line(text, number, max(offset, start), end, deadline)
            elif self._matches_in_time(text, offset, end, deadline):
                yield LineMatch(number, offset, text[offset:end])
            offset, number = end + 1, number + 1

    def _search_long_line(
        self, text: str, number: int, start: int, end: int, deadline: float
    ) -> Iterator[LineMatch]:
        while start < end:
            piece_end = min(start + PIECE_CHARACTERS, end)
            if self._matches_in_time(text, start, piece_end, deadline):
                match_end = start + self._match_end(text[start:piece_end])
                start = max(start, match_end - EXCERPT_CHARACTERS * 2 // 3)
                excerpt = text[start : min(start + EXCERPT_CHARACTERS, end)]
                yield LineMatch(number, start, excerpt)
                start += len(excerpt)
            elif piece_end == end:
                return
            else:
                start += PIECE_CHARACTERS - OVERLAP_CHARACTERS

    def _matches_in_time(self, text: str, start: int, end: int, deadline: float) -> bool:
        if time.monotonic() > deadline:
            raise SearchTimeoutError(start)
        return self.matches(text[start:end])

    def _match_end(self, text: str) -> int:
        """The length of the shortest beginning that matches."""
        low, high = 0, len(text)
        while low < high:
            middle = (low + high) // 2
            if self.matches(text[:middle]):
                high = middle
            else:
                low = middle + 1
        return low


def _expanded_size(pattern: str) -> int:
    """About how long the pattern is with its counted repetitions written out."""
    sizes, last = [0], 0  # of the open groups, and of what a repetition would repeat
    for token in _TOKEN.finditer(pattern):
        if token[0] == "(":
            sizes.append(0)
        elif token[1] is not None:
            repeated = last * max(int(token[2] or token[1]), 1)
            sizes[-1] += repeated - last
            last = repeated
        else:
            last = sizes.pop() if token[0] == ")" and len(sizes) > 1 else 1
            sizes[-1] += last
    return sum(sizes)
