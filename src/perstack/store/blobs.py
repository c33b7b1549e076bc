"""Long strings of an event, moved out of its body and kept once under their hash.

The only parts of an event whose shape is not ours are the arguments of a tool call and the form of
an answer, and they are left alone: whatever stands there, it cannot be mistaken for a reference.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, cast

BLOB_CHARACTERS = 16 * 1024

MARK = "$blob"
FOREIGN = frozenset({"args", "answerSchema"})
BASE64_FIELDS = frozenset({"encodedData", "data"})

Json = dict[str, Any]


def take_out(content: Json, blobs: dict[str, bytes]) -> Json:
    """A copy of `content` with references for long strings, whose bytes are put into `blobs`."""
    return {
        name: value if name in FOREIGN else _replace(name, value, blobs)
        for name, value in content.items()
    }


def _replace(name: str, value: object, blobs: dict[str, bytes]) -> object:
    if isinstance(value, str):
        return value if len(value) <= BLOB_CHARACTERS else _refer(name, value, blobs)
    if isinstance(value, dict):
        return take_out(cast("Json", value), blobs)
    if isinstance(value, list | tuple):
        return [_replace(name, item, blobs) for item in cast("list[object]", value)]
    return value


def _refer(name: str, text: str, blobs: dict[str, bytes]) -> object:
    raw = _decoded(text) if name in BASE64_FIELDS else None
    is_base64 = raw is not None
    if raw is None:
        # Half surrogate pairs, which a model's JSON may contain, survive the way there and back.
        raw = text.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(raw).hexdigest()
    blobs[digest] = raw
    return {MARK: digest, "base64": True} if is_base64 else {MARK: digest}


def _decoded(text: str) -> bytes | None:
    """The bytes behind `text`, if encoding them again gives exactly `text`."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode("ascii") == text else None


def put_back(content: Json, fetch: Callable[[str], bytes]) -> Json:
    """A copy of `content` with the strings in place of their references."""
    return {
        name: value if name in FOREIGN else _restore(value, fetch)
        for name, value in content.items()
    }


def _restore(value: object, fetch: Callable[[str], bytes]) -> object:
    if isinstance(value, dict):
        fields = cast("Json", value)
        return _resolve(fields, fetch) if MARK in fields else put_back(fields, fetch)
    if isinstance(value, list):
        return [_restore(item, fetch) for item in cast("list[object]", value)]
    return value


def _resolve(reference: Mapping[str, Any], fetch: Callable[[str], bytes]) -> str:
    raw = fetch(reference[MARK])
    if reference.get("base64"):
        return base64.b64encode(raw).decode("ascii")
    return raw.decode("utf-8", "surrogatepass")
