"""The frames of Amazon's event streams."""

import json
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.llm.wire.event_stream import EventStream
from perstack.llm.wire.reply import InvalidReplyError
from tests.llm.aws import frames
from tests.model_server.dialects.bedrock import encode, frame

TEXTS = st.lists(st.text(), max_size=5)


def body_of(texts: list[str]) -> bytes:
    return b"".join(frame({"contentBlockDelta": {"text": text}}) for text in texts)


def decode(*pieces: bytes) -> list[object]:
    framing = EventStream()
    payloads = [payload for piece in pieces for payload in framing.feed(piece)]
    return [json.loads(payload) for payload in payloads + framing.finish()]


@given(TEXTS, st.lists(st.integers(0, 10_000)))
def test_events_do_not_depend_on_how_their_bytes_are_split(
    texts: list[str], cuts: list[int]
) -> None:
    body = body_of(texts)
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    pieces = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    assert decode(*pieces) == [{"contentBlockDelta": {"text": text}} for text in texts]


@given(TEXTS)
def test_events_are_those_that_botocore_reads(texts: list[str]) -> None:
    body = body_of(texts)
    assert decode(body) == [
        {headers[":event-type"]: json.loads(payload)} for headers, payload in frames(body)
    ]


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_byte_makes_the_reply_invalid(place: int, change: int) -> None:
    body = bytearray(body_of(["one", "two"]))
    body[place % len(body)] ^= change
    with pytest.raises(InvalidReplyError):
        decode(bytes(body))


def test_a_damaged_length_is_not_waited_for() -> None:
    whole = body_of(["one"])
    for place in range(12):
        body = bytearray(whole)
        body[place] ^= 1
        with pytest.raises(InvalidReplyError, match="the length of a frame is damaged"):
            decode(bytes(body))


def test_a_stream_that_ends_inside_a_frame_is_no_reply() -> None:
    body = body_of(["one"])
    for cut in range(1, len(body)):
        with pytest.raises(InvalidReplyError, match="it ended inside a frame"):
            decode(body[:cut])


def test_headers_of_every_kind_are_passed_over() -> None:
    values = [(0, b""), (1, b""), (2, b"\x01"), (3, b"\0\1"), (4, b"\0\0\0\1"), (5, bytes(8))]
    values += [(6, b"\0\3abc"), (8, bytes(8)), (9, bytes(16)), (7, b"\0\4stop")]
    headers = b"".join(
        struct.pack(">B", 2) + b"h%d" % kind + struct.pack(">B", kind) + value
        for kind, value in values[:-1]
    )
    headers += struct.pack(">B", 11) + b":event-type" + b"\x07" + values[-1][1]
    assert decode(with_headers(headers)) == [{"stop": {}}]


def with_headers(headers: bytes) -> bytes:
    lengths = struct.pack(">II", 16 + len(headers), len(headers))
    content = lengths + struct.pack(">I", crc32(lengths)) + headers
    return content + struct.pack(">I", crc32(content))


@pytest.mark.parametrize("headers", [b"\x05ab", b"\x01a\x63", b"\x01a\x07\xff", b"\x01\xff\x07"])
def test_headers_that_cannot_be_read_make_the_reply_invalid(headers: bytes) -> None:
    with pytest.raises(InvalidReplyError, match="the headers of a frame"):
        decode(with_headers(headers))


def test_a_length_beyond_every_frame_is_not_waited_for() -> None:
    lengths = struct.pack(">II", 2**31, 0)
    with pytest.raises(InvalidReplyError, match="the length of a frame"):
        decode(lengths + struct.pack(">I", crc32(lengths)))


def test_an_error_outside_of_the_format_is_told_with_its_code() -> None:
    headers = {":message-type": "error", ":error-code": "Gone", ":error-message": "for good"}
    assert decode(encode(headers, b"")) == [{"error": {"message": "Gone: for good"}}]
