"""What of a long text fits into one result, and how the reader gets the rest.

Clients cut what is longer, or put it where a model does not look. So the limits are those of the
strictest: 40,000 characters for a result, and fewer where letters need several tokens each.
"""

from dataclasses import dataclass

from perstack.server.addresses import of_job
from perstack.server.documents import sound
from perstack.server.tools import JOB

MAX_CHARACTERS = 39_000
"""Of the text; what stands around it keeps a block below 40,000."""

MAX_BYTES = 60_000
"""Where a letter has three bytes, it is about a token: so many are below 25,000 tokens."""

MAX_ERROR_CHARACTERS = 10_000
"""Of the text of a result that is an error, which some clients cut at 11,000."""

END_SHARE = 0.2
"""How much of a first result is for the end of the text, where conclusions stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """A part of a text, with a line on what is missing, if anything is.

    Attributes:
        text: The part.
        is_whole: Whether it is the whole text.
    """

    text: str
    is_whole: bool = True


def excerpt(
    text: str, job_id: str, *, offset: int = 0, is_error: bool = False, has_job_tools: bool = True
) -> Excerpt:
    """As much of `text` from `offset` on as fits into a result.

    The first result of a text that is too long has its beginning and its end; those that follow
    have one piece after the other.

    Args:
        text: The text of a job.
        job_id: The job.
        offset: Where to begin, in characters.
        is_error: Whether the result is an error.
        has_job_tools: Whether the reader can call the tools that look after jobs.
    """
    whole = sound(text)
    most = MAX_ERROR_CHARACTERS if is_error else MAX_CHARACTERS
    rest = whole[offset:]
    if _fitting(rest, most) == len(rest):
        return Excerpt(text=rest, is_whole=offset == 0)
    tail = "" if offset else _end(whole, most)
    piece = rest[: _fitting(rest, most, len(tail.encode()), len(tail))]
    end = offset + len(piece)
    missing = _missing(end, len(whole) - len(tail), len(whole), has_tail=bool(tail))
    note = f"[{missing} {_how_to_read_on(job_id, end, has_job_tools=has_job_tools)}]"
    return Excerpt(text="\n".join(part for part in (piece, note, tail) if part), is_whole=False)


def _end(text: str, most: int) -> str:
    characters = round(most * END_SHARE)
    last = text[-characters:].encode()[-round(MAX_BYTES * END_SHARE) :]
    return last.decode("utf-8", "ignore")


def _fitting(text: str, most: int, used_bytes: int = 0, used_characters: int = 0) -> int:
    """How many characters fit, beside those that are used already."""
    piece = text[: most - used_characters].encode()[: MAX_BYTES - used_bytes]
    return len(piece.decode("utf-8", "ignore"))


def _missing(first: int, last: int, total: int, *, has_tail: bool) -> str:
    if has_tail:
        return f"Characters {first:,} to {last:,} of {total:,} are left out here."
    return f"{total - first:,} of {total:,} characters follow."


def _how_to_read_on(job_id: str, offset: int, *, has_job_tools: bool) -> str:
    whole = f"The whole text is the resource {of_job('result', job_id).uri}"
    if not has_job_tools:
        return f"{whole}."
    return f"{whole}; {JOB} with this job_id and offset={offset} returns the next part."
