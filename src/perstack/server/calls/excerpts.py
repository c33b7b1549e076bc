"""What of a long text fits into one result, and how the reader gets the rest.

Clients cut what is longer, or put it where a model does not look. So a result has at most 40,000
characters, fewer where letters need several tokens each, and fewer for clients that take less.
"""

from dataclasses import dataclass

from perstack.server.calls.tools import JOB
from perstack.server.reading.addresses import of_job
from perstack.server.reading.documents import size, sound

MAX_ERROR_CHARACTERS = 10_000
"""Of the text of a result that is an error, which some clients cut at 11,000."""

END_SHARE = 0.2
"""How much of a first result is for the end of the text, where conclusions stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much text one client takes in a result, beside what stands around it.

    Attributes:
        characters: So that a block stays below 40,000.
        size: In bytes. Where a letter has three, it is about a token: so many are below 25,000
        tokens.
    """

    characters: int = 39_000
    size: int = 45_000


USUAL = Room()
ROOM_OF = {
    # Cuts out the middle of what has more than 12,000 bytes, the line that tells it included.
    "codex": Room(characters=9_500, size=9_500),
}
"""Clients that take less than others, by the beginning of the name that they give themselves."""


def room_for(client_name: str) -> Room:
    """The room in the results for a client."""
    name = client_name.casefold()
    return next((room for known, room in ROOM_OF.items() if name.startswith(known)), USUAL)


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
    text: str, job_id: str, *, room: Room, offset: int = 0, has_job_tools: bool = True
) -> Excerpt:
    """As much of `text` from `offset` on as fits into a result.

    The first result of a text that is too long has its beginning and its end; those that follow
    have one piece after the other.

    Args:
        text: The text of a job.
        job_id: The job.
        room: How much is taken.
        offset: Where to begin, in characters.
        has_job_tools: Whether the reader can call the tools that look after jobs.
    """
    whole = sound(text)
    rest = whole[offset:]
    if _beginning(rest, room) == rest:
        return Excerpt(text=rest, is_whole=offset == 0)
    tail = "" if offset else _end(whole, room)
    piece = _beginning(rest, room, tail)
    end = offset + len(piece)
    missing = _missing(end, len(whole) - len(tail), len(whole), has_tail=bool(tail))
    note = f"[{missing} {_how_to_read_on(job_id, end, has_job_tools=has_job_tools)}]"
    return Excerpt(text="\n".join(part for part in (piece, note, tail) if part), is_whole=False)


def _beginning(text: str, room: Room, beside: str = "") -> str:
    """As much as there is room for, beside a text that has its place already."""
    piece = text[: room.characters - len(beside)].encode()[: room.size - size(beside)]
    return piece.decode("utf-8", "ignore")


def _end(text: str, room: Room) -> str:
    last = text[-round(room.characters * END_SHARE) :].encode()[-round(room.size * END_SHARE) :]
    return last.decode("utf-8", "ignore")


def _missing(first: int, last: int, total: int, *, has_tail: bool) -> str:
    if has_tail:
        return f"Characters {first:,} to {last:,} of {total:,} are left out here."
    return f"{total - first:,} of {total:,} characters follow."


def _how_to_read_on(job_id: str, offset: int, *, has_job_tools: bool) -> str:
    whole = f"The whole text is the resource {of_job('result', job_id).uri}"
    if not has_job_tools:
        return f"{whole}."
    return f"{whole}; {JOB} with this job_id and offset={offset} returns the next part."
