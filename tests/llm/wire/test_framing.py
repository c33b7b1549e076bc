"""Payloads of streamed bodies, however the bytes are split."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perstack.llm.wire.framing import Framing, JsonLines, ServerSentEvents
from tests.llm.wire.reading import split_at

TEXTS = st.lists(st.text(min_size=1).map(json.dumps), max_size=6)


def decode(framing: Framing, pieces: list[bytes]) -> list[bytes]:
    payloads = [payload for piece in pieces for payload in framing.feed(piece)]
    return payloads + framing.finish()


@pytest.mark.parametrize(
    ("body", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\r\n\r\ndata:b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": comment\n\nevent: x\nid: 1\nretry: 9\ndata: a\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"data: see [DONE]\n\ndata: [DONE]\n\n", [b"see [DONE]", b"[DONE]"]),
        ("data: x\u2028y\x85z\x0b\x0c\n\n".encode(), ["x\u2028y\x85z\x0b\x0c".encode()]),
        (b"data:  two spaces\n\n", [b" two spaces"]),
        (b"data\n\ndatabase: no\n\n\n\n", [b""]),
        (b"", []),
    ],
)
def test_events_are_what_the_standard_says(body: bytes, payloads: list[bytes]) -> None:
    assert decode(ServerSentEvents(), [body]) == payloads
    assert decode(ServerSentEvents(), [bytes([byte]) for byte in body]) == payloads


@given(TEXTS, st.sampled_from(["\n", "\r", "\r\n"]), st.lists(st.integers(0, 10_000)))
def test_events_do_not_depend_on_how_their_bytes_are_split(
    texts: list[str], line_end: str, cuts: list[int]
) -> None:
    body = "".join(f"data: {text}{line_end}{line_end}" for text in texts).encode()
    assert decode(ServerSentEvents(), split_at(body, cuts)) == [text.encode() for text in texts]


@given(TEXTS, st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0, 10_000)))
def test_lines_do_not_depend_on_how_their_bytes_are_split(
    texts: list[str], line_end: str, cuts: list[int]
) -> None:
    body = line_end.join(texts).encode()
    assert decode(JsonLines(), split_at(body, cuts)) == [text.encode() for text in texts]


def test_blank_lines_between_json_lines_are_skipped() -> None:
    assert decode(JsonLines(), [b'\n{"a": 1}\n\n \n{"b": 2}']) == [b'{"a": 1}', b'{"b": 2}']
