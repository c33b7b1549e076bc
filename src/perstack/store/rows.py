"""The stored form of an event: columns, and a body of compact JSON that repeats none of them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from perstack.core.events import RUN_EVENT, RunEvent
from perstack.errors import StoreError
from perstack.store.blobs import MARK, put_back, take_out

COLUMNS = frozenset({"stamp", "type"})
BATCH = 256

_RUN_EVENTS: TypeAdapter[tuple[RunEvent, ...]] = TypeAdapter(tuple[RunEvent, ...])


@dataclass(frozen=True, slots=True)
class Content:
    """What an event says beyond its columns. `body` is `None` if that is nothing."""

    body: str | None
    blobs: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


class Row(NamedTuple):
    """An event as it comes back from the database."""

    job_id: str
    run_id: str
    expert_key: str
    step_number: int
    sequence: int
    timestamp: int
    type: str
    body: str | None


def encode(event: RunEvent) -> Content:
    """Split an event into its body and its blobs."""
    if type(event).model_fields.keys() == COLUMNS:
        return Content(None)
    blobs: dict[str, bytes] = {}
    content = event.model_dump(by_alias=True, exclude=set(COLUMNS), exclude_none=True)
    content = take_out(content, blobs)
    return Content(_compact(content) if content else None, blobs)


def to_line(event: RunEvent, blobs: dict[str, bytes]) -> str:
    """An event as one line of JSON; what is long goes into `blobs`."""
    content, stamp = encode(event), event.stamp
    blobs.update(content.blobs)
    return _document(
        Row(
            stamp.job_id,
            stamp.run_id,
            stamp.expert_key,
            stamp.step_number,
            stamp.sequence,
            stamp.timestamp,
            event.type,
            content.body,
        )
    )


def from_line(line: str, fetch: Callable[[str], bytes]) -> RunEvent:
    """The event that `to_line` wrote.

    Raises:
        ValueError: It is none that this version knows.
    """
    return RUN_EVENT.validate_python(put_back(json.loads(line), fetch))


def _compact(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Half a surrogate pair has no UTF-8 form, its escape sequence has.
        return json.dumps(content, separators=(",", ":"))
    return text


def decode_all(rows: Iterable[Row], fetch: Callable[[str], bytes]) -> tuple[RunEvent, ...]:
    """The events of many rows; parsing them in batches takes half the time of one by one.

    Raises:
        StoreError: See `decode`.
    """
    rows = tuple(rows)
    batches = (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))
    return tuple(event for batch in batches for event in _decode_batch(batch, fetch))


def _decode_batch(rows: Sequence[Row], fetch: Callable[[str], bytes]) -> tuple[RunEvent, ...]:
    if not any(row.body and MARK in row.body for row in rows):
        try:
            return _RUN_EVENTS.validate_json(f"[{','.join(map(_document, rows))}]")
        except ValidationError:
            pass  # one by one it shows which row it was, and whether it was to blame
    return tuple(decode(row, fetch) for row in rows)


def decode(row: Row, fetch: Callable[[str], bytes]) -> RunEvent:
    """The event of a row; `fetch` gives the bytes of a blob.

    Raises:
        StoreError: The row is not an event that this version knows.
    """
    try:
        return _decode(row, fetch)
    except (AttributeError, TypeError, ValueError) as error:  # whatever the damage looks like
        raise StoreError(
            f"Event {row.run_id}-{row.sequence} of job {row.job_id} ({row.type}) cannot be read.",
            hint="The store is damaged, or a newer version of perstack wrote it.",
        ) from error


def _decode(row: Row, fetch: Callable[[str], bytes]) -> RunEvent:
    if row.body is None or MARK not in row.body:
        try:
            return RUN_EVENT.validate_json(_document(row))
        except ValidationError:
            pass  # half a surrogate pair is refused by that parser and read by the one below
    content: dict[str, Any] = json.loads(row.body) if row.body else {}
    return RUN_EVENT.validate_python(
        {"type": row.type, "stamp": _stamp(row), **put_back(content, fetch)}
    )


def _document(row: Row) -> str:
    head = (
        f'{{"type":{_quoted(row.type)},"stamp":{{"jobId":{_quoted(row.job_id)},'
        f'"runId":{_quoted(row.run_id)},"expertKey":{_quoted(row.expert_key)},'
        f'"stepNumber":{row.step_number},"sequence":{row.sequence},"timestamp":{row.timestamp}}}'
    )
    return f"{head},{row.body[1:]}" if row.body else f"{head}}}"


@lru_cache(maxsize=256)
def _quoted(text: str) -> str:
    return json.dumps(text)


def _stamp(row: Row) -> dict[str, str | int]:
    return {
        "jobId": row.job_id,
        "runId": row.run_id,
        "expertKey": row.expert_key,
        "stepNumber": row.step_number,
        "sequence": row.sequence,
        "timestamp": row.timestamp,
    }
