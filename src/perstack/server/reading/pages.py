"""Lists that are too long for one answer, page by page.

A page is short enough for any client, and says where the next one is. Events are numbered within
their job in the order of writing, which never changes; so a page that is full will always be the
same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perstack.core.checkpoint import Checkpoint, Job
from perstack.core.events import RunEvent
from perstack.core.wire import checkpoint_to_wire, to_wire
from perstack.server.reading.addresses import Address
from perstack.server.reading.documents import (
    JSON_LINES,
    MAX_PAGE_BYTES,
    Document,
    as_json,
    as_line,
    size,
)
from perstack.server.reading.stories import job_entry

Json = dict[str, Any]
Trail = Sequence[tuple[RunEvent, Checkpoint]]

STAMP = ("type", "id", "timestamp", "jobId", "runId", "expertKey", "stepNumber")


@dataclass(frozen=True, slots=True)
class _Page:
    """Some entries of a list, already written as text; `following` is the number after them."""

    lines: tuple[str, ...]
    following: int
    is_full: bool


def events_page(trail: Trail, address: Address, limit: int) -> Document:
    """Events in the form of the event stream, one a line."""

    def line(entry: tuple[RunEvent, Checkpoint]) -> str:
        event, checkpoint = entry
        return _bounded(to_wire(event, checkpoint), address, checkpoint)

    page = _page(trail, address.numbers.get("after", 0), limit, line)
    return Document(
        text="".join(page.lines),
        mime_type=JSON_LINES,
        is_lasting=page.is_full,
        next_uri=_next(address, "after", page),
    )


def checkpoints_page(trail: Trail, address: Address, limit: int) -> Document:
    """Where a job could be continued, without the states themselves."""

    def line(entry: tuple[RunEvent, Checkpoint]) -> str:
        event, checkpoint = entry
        names = {**address.names, "checkpoint_id": checkpoint.id}
        return as_line(
            {
                "checkpoint_id": checkpoint.id,
                "run_id": checkpoint.run_id,
                "expert": checkpoint.expert.key,
                "event": event.type,
                "status": checkpoint.status,
                "step": checkpoint.step_number,
                "can_be_continued": checkpoint.delegated_by is None,
                "uri": Address("checkpoint", names).uri,
            }
        )

    page = _page(trail, address.numbers.get("after", 0), limit, line)
    next_uri = _next(address, "after", page)
    following = {"next": next_uri} if next_uri else {}
    entries = ",\n".join(f"  {each.strip()}" for each in page.lines)
    head = as_json({"job_id": address.names["job_id"], **following}).removesuffix("\n}")
    return Document(
        text=f'{head},\n  "checkpoints": [\n{entries}\n  ]\n}}',
        is_lasting=page.is_full,
        next_uri=next_uri,
    )


def checkpoint_page(checkpoint: Checkpoint, address: Address) -> Document:
    """The state of a run; of a long conversation, as many messages as a page has room for."""
    wire = checkpoint_to_wire(checkpoint)
    page = _page(wire["messages"], address.numbers.get("after", 0), len(wire["messages"]), as_line)
    first = page.following - len(page.lines)
    next_uri = _next(address, "after", page)
    following = {"next": next_uri} if next_uri else {}
    return Document(
        text=as_json({**wire, "messages": wire["messages"][first : page.following], **following}),
        is_lasting=True,
        next_uri=next_uri,
    )


def jobs_page(found: Sequence[Job], offset: int, limit: int) -> Document:
    """Jobs, newest first; `found` has one more than `limit` if there are more."""
    shown = found[:limit]
    more = Address("jobs", numbers={"offset": offset + limit, "limit": limit}).uri
    next_uri = more if len(found) > limit else None
    following = {"next": next_uri} if next_uri else {}
    entries = [job_entry(job) for job in shown]
    return Document(text=as_json({"jobs": entries, **following}), next_uri=next_uri)


def _page(entries: Sequence[Any], after: int, limit: int, line_of: Callable[[Any], str]) -> _Page:
    """At least one entry, if there is any left, and no more than fit."""
    lines: list[str] = []
    room = MAX_PAGE_BYTES
    for entry in entries[after : after + limit]:
        line = line_of(entry)
        room -= size(line)
        if lines and room < 0:
            break
        lines.append(line)
    following = min(after, len(entries)) + len(lines)
    return _Page(tuple(lines), following, is_full=following < len(entries))


def _next(address: Address, name: str, page: _Page) -> str | None:
    if not page.is_full:
        return None
    return Address(address.kind, address.names, {**address.numbers, name: page.following}).uri


def _bounded(wire: Mapping[str, Any], address: Address, checkpoint: Checkpoint) -> str:
    """An event as a line; of one that is longer than a page, only what it is and where to look."""
    line = as_line(wire)
    if size(line) <= MAX_PAGE_BYTES:
        return line
    names = {**address.names, "checkpoint_id": checkpoint.id}
    omitted = {"bytes": size(line), "checkpoint": Address("checkpoint", names).uri}
    return as_line({**{key: wire[key] for key in STAMP if key in wire}, "omitted": omitted})
