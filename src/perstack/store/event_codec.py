"""The stored form of an event: columns, and a body of compact JSON that repeats none of them."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from perstack.core.events import RUN_EVENT, RunEvent
from perstack.errors import StoreError

MAX_INLINE_CHARACTERS = 16 * 1024

BLOB_KEY = "$blob"
OPAQUE_FIELDS = frozenset({"args", "answerSchema", "content"})
BASE64_FIELDS = frozenset({"encodedData", "data"})

Json = dict[str, Any]


def extract_blobs(content: Json, blobs: dict[str, bytes]) -> Json:
    """A copy of `content` with references for long strings, whose bytes are put into `blobs`."""
    return {
        name: value if name in OPAQUE_FIELDS else _extract_value(name, value, blobs)
        for name, value in content.items()
    }


def _extract_value(name: str, value: object, blobs: dict[str, bytes]) -> object:
    if isinstance(value, str):
        return value if len(value) <= MAX_INLINE_CHARACTERS else _blob_reference(name, value, blobs)
    if isinstance(value, dict):
        return extract_blobs(cast("Json", value), blobs)
    if isinstance(value, list | tuple):
        return [_extract_value(name, item, blobs) for item in cast("list[object]", value)]
    return value


def _blob_reference(name: str, text: str, blobs: dict[str, bytes]) -> object:
    raw = _decode_base64(text) if name in BASE64_FIELDS else None
    is_base64 = raw is not None
    if raw is None:
        # Half surrogate pairs, which a model's JSON may contain, survive the way there and back.
        raw = text.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(raw).hexdigest()
    blobs[digest] = raw
    return {BLOB_KEY: digest, "base64": True} if is_base64 else {BLOB_KEY: digest}


def _decode_base64(text: str) -> bytes | None:
    """The bytes behind `text`, if encoding them again gives exactly `text`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None


def inline_blobs(content: Json, fetch: Callable[[str], bytes]) -> Json:
    """A copy of `content` with the strings in place of their references."""
    return {
        name: value if name in OPAQUE_FIELDS else _inline_value(value, fetch)
        for name, value in content.items()
    }


def _inline_value(value: object, fetch: Callable[[str], bytes]) -> object:
    if isinstance(value, dict):
        fields = cast("Json", value)
        return _load_text(fields, fetch) if BLOB_KEY in fields else inline_blobs(fields, fetch)
    if isinstance(value, list):
        return [_inline_value(item, fetch) for item in cast("list[object]", value)]
    return value


def _load_text(reference: Mapping[str, Any], fetch: Callable[[str], bytes]) -> str:
    raw = fetch(reference[BLOB_KEY])
    if reference.get("base64"):
        return base64.b64encode(raw).decode("ascii")
    return raw.decode("utf-8", "surrogatepass")


COLUMN_FIELDS = frozenset({"stamp", "type"})
BODILESS_FIELDS = COLUMN_FIELDS | {"activation_id"}
DECODE_BATCH_SIZE = 256

_RUN_EVENTS: TypeAdapter[tuple[RunEvent, ...]] = TypeAdapter(tuple[RunEvent, ...])


@dataclass(frozen=True, slots=True)
class EncodedEvent:
    """What an event says beyond its columns. `body` is `None` if that is nothing."""

    body: str | None
    blobs: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


class EventRow(NamedTuple):
    """An event as it comes back from the database."""

    job_id: str
    run_id: str
    expert_key: str
    step_number: int
    sequence: int
    timestamp: int
    type: str
    body: str | None


def encode_event(event: RunEvent) -> EncodedEvent:
    """Split an event into its body and its blobs."""
    if event.activation_id is None and _is_bodiless(type(event)):
        return EncodedEvent(None)
    content = event.model_dump(by_alias=True, exclude=set(COLUMN_FIELDS), exclude_none=True)
    if "usage" in content:
        content["usage"] = _without_zero_counts(content["usage"])
    body = _compact_json(content) if content else None
    if body is None or len(body) <= MAX_INLINE_CHARACTERS:
        return EncodedEvent(body)  # no string in it is longer than all of it
    blobs: dict[str, bytes] = {}
    return EncodedEvent(_compact_json(extract_blobs(content, blobs)), blobs)


@cache
def _is_bodiless(kind: type[RunEvent]) -> bool:
    return kind.model_fields.keys() == BODILESS_FIELDS


def _without_zero_counts(usage: Json) -> Json:
    # Most of the counts of most generations are zero. A cost of zero is not an unknown one.
    return {name: value for name, value in usage.items() if value or name == "costUsd"}


def encode_line(event: RunEvent, blobs: dict[str, bytes]) -> str:
    """An event as one line of JSON; what is long goes into `blobs`."""
    content, stamp = encode_event(event), event.stamp
    blobs.update(content.blobs)
    return _row_json(
        EventRow(
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


def decode_line(line: str, fetch: Callable[[str], bytes]) -> RunEvent:
    """The event that `to_line` wrote.

    Raises:
        ValueError: It is none that this version knows.
    """
    return RUN_EVENT.validate_python(inline_blobs(json.loads(line), fetch))


def _compact_json(content: Json) -> str:
    try:
        text = orjson.dumps(content).decode()
    except orjson.JSONEncodeError:
        pass  # half a surrogate pair, or a number that is too large for it
    else:
        if "null" not in text:  # which orjson writes for numbers that JSON lacks, too
            return text
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Half a surrogate pair has no UTF-8 form, its escape sequence has.
        return json.dumps(content, separators=(",", ":"))
    return text


def decode_rows(rows: Iterable[EventRow], fetch: Callable[[str], bytes]) -> tuple[RunEvent, ...]:
    """The events of many rows; parsing them in batches takes half the time of one by one.

    Raises:
        StoreError: See `decode`.
    """
    rows = tuple(rows)
    batches = (
        rows[start : start + DECODE_BATCH_SIZE] for start in range(0, len(rows), DECODE_BATCH_SIZE)
    )
    return tuple(event for batch in batches for event in _decode_batch(batch, fetch))


def _decode_batch(rows: Sequence[EventRow], fetch: Callable[[str], bytes]) -> tuple[RunEvent, ...]:
    if not any(row.body and BLOB_KEY in row.body for row in rows):
        try:
            return _RUN_EVENTS.validate_json(f"[{','.join(map(_row_json, rows))}]")
        except ValidationError:
            pass  # one by one it shows which row it was, and whether it was to blame
    return tuple(decode_row(row, fetch) for row in rows)


def decode_row(row: EventRow, fetch: Callable[[str], bytes]) -> RunEvent:
    """The event of a row; `fetch` gives the bytes of a blob.

    Raises:
        StoreError: The row is not an event that this version knows.
    """
    try:
        return _parse_row(row, fetch)
    except (AttributeError, TypeError, ValueError) as error:  # whatever the damage looks like
        raise StoreError(
            f"Event {row.run_id}-{row.sequence} of job {row.job_id} ({row.type}) cannot be read.",
            hint="The store is damaged, or a newer version of perstack wrote it.",
        ) from error


def _parse_row(row: EventRow, fetch: Callable[[str], bytes]) -> RunEvent:
    if row.body is None or BLOB_KEY not in row.body:
        try:
            return RUN_EVENT.validate_json(_row_json(row))
        except ValidationError:
            pass  # half a surrogate pair is refused by that parser and read by the one below
    content: dict[str, Any] = json.loads(row.body) if row.body else {}
    return RUN_EVENT.validate_python(
        {"type": row.type, "stamp": _stamp_fields(row), **inline_blobs(content, fetch)}
    )


def _row_json(row: EventRow) -> str:
    header = (
        f'{{"type":{_json_string(row.type)},"stamp":{{"jobId":{_json_string(row.job_id)},'
        f'"runId":{_json_string(row.run_id)},"expertKey":{_json_string(row.expert_key)},'
        f'"stepNumber":{row.step_number},"sequence":{row.sequence},"timestamp":{row.timestamp}}}'
    )
    return f"{header},{row.body[1:]}" if row.body else f"{header}}}"


@lru_cache(maxsize=256)
def _json_string(text: str) -> str:
    return json.dumps(text)


def _stamp_fields(row: EventRow) -> dict[str, str | int]:
    return {
        "jobId": row.job_id,
        "runId": row.run_id,
        "expertKey": row.expert_key,
        "stepNumber": row.step_number,
        "sequence": row.sequence,
        "timestamp": row.timestamp,
    }
