"""What a resource holds, and how a listing shows a job: all that the handlers of requests see."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

JSON = "application/json"
JSON_LINES = "application/jsonl"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"

MAX_PAGE_BYTES = 256 * 1024
"""Of one page of a list; a single entry that is longer is a page of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The content of a resource.

    Attributes:
        text: All of it, or one page.
        mime_type: Its form.
        is_lasting: Whether it will be the same whenever it is read again.
        next_uri: Where the next page is, if this is one of several.
    """

    text: str
    mime_type: str = JSON
    is_lasting: bool = False
    next_uri: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEntry:
    """A job in a listing.

    Attributes:
        job_id: Its id.
        expert: The key of its expert.
        status: As results name it.
        query: The beginning of what it was asked.
        updated_at: When it last changed, in ISO 8601.
    """

    job_id: str
    expert: str
    status: str
    query: str
    updated_at: str


def as_json(value: Mapping[str, Any]) -> str:
    """For a document that people read too."""
    return sound(json.dumps(value, ensure_ascii=False, indent=2))


def as_line(value: Mapping[str, Any]) -> str:
    """For a document of one object a line, and in the form of the event stream."""
    return sound(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) + "\n"


def moment(milliseconds: int) -> str:
    """A time in ISO 8601."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def size(text: str) -> int:
    """In bytes, as it is sent."""
    return len(text.encode())


def sound(text: str) -> str:
    """The text without halves of surrogate pairs, which a model can produce and nobody can send."""
    return text.encode("utf-8", "replace").decode("utf-8")
