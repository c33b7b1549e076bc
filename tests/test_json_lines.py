from collections.abc import AsyncGenerator

import pytest
from mcp_types import JSONRPCRequest

from perstack.json_lines import LineTooLongError, decode_message, split_lines

pytestmark = pytest.mark.anyio


async def chunked(*chunks: bytes) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ((b"a\nb\n",), [b"a", b"b"]),
        ((b"a", b"b\nc", b"\n"), [b"ab", b"c"]),
        ((b"\n \n\r\na",), [b"", b" ", b"\r", b"a"]),
        ((b"12345", b"67890", b"abc\nnext\n"), [b"12345678", b"next"]),
        ((), []),
    ],
)
async def test_bytes_become_lines(chunks: tuple[bytes, ...], lines: list[bytes]) -> None:
    assert [line async for line in split_lines(chunked(*chunks), 8, too_long="cut")] == lines


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (rb'{"jsonrpc":"2.0","id":1,"method":"m","params":{"t":"a\ud800b"}}', "a\ufffdb"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"t":"a\xffb"}}', "a\ufffdb"),
        (rb'{"jsonrpc":"2.0","id":1,"method":"m","params":{"t":"\ud83d\ude42"}}', "🙂"),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"t":"a\tb\x00"}}', "a\tb\x00"),
    ],
)
def test_text_that_is_no_text_is_repaired(line: bytes, text: str) -> None:
    message = decode_message(line)
    assert isinstance(message, JSONRPCRequest)
    assert message.params == {"t": text}


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b" \xef\xbb\xbf ", b"\xef\xbb\xbf" * 2])
def test_byte_order_marks_before_a_message_are_ignored(mark: bytes) -> None:
    message = decode_message(
        mark + rb'{"jsonrpc":"2.0","id":1,"method":"m","params":{"t":"\ufeffa"}}'
    )
    assert isinstance(message, JSONRPCRequest)
    assert message.params == {"t": "\ufeffa"}


async def test_a_line_that_is_too_long_can_be_split() -> None:
    chunks = chunked(b"12345", b"67890", b"abc\nnext\n")

    lines = [line async for line in split_lines(chunks, 8, too_long="split")]

    assert lines == [b"1234567890", b"abc", b"next"]


async def test_a_line_that_is_too_long_can_be_an_error() -> None:
    lines = split_lines(chunked(b"a\n12345", b"67890"), 8, too_long="raise")

    assert await anext(lines) == b"a"
    with pytest.raises(LineTooLongError):
        await anext(lines)
