"""Lines in and out over descriptors, whatever is on them."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import anyio
import pytest
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCResponse

from perstack.json_lines import decode_message
from perstack.server.transports.stdio import (
    encode_or_error,
    invalid_message_error,
    open_message_streams,
)

pytestmark = pytest.mark.anyio

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        (b"\x00\xff", -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[]", -32600, None),
        (b'{"id": 7, "method": 5}', -32600, 7),
        (b'{"id": "x", "method": "m"}', -32600, "x"),
        (b'{"id": true, "method": 5}', -32600, None),
        (b'{"id": 7, "result": 5}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600, None),
    ],
)
def test_a_line_that_is_no_message_is_refused_with_its_id(
    line: bytes, code: int, request_id: object
) -> None:
    assert decode_message(line) is None
    answer = json.loads(invalid_message_error(line).model_dump_json(exclude_unset=True))
    assert (answer["error"]["code"], answer["id"]) == (code, request_id)


def test_an_answer_that_cannot_be_written_becomes_an_error() -> None:
    message = JSONRPCResponse(jsonrpc="2.0", id=4, result={"text": "\ud800"})
    answer = json.loads(encode_or_error(message))
    assert (answer["id"], answer["error"]["code"]) == (4, -32603)


@pytest.fixture
def ends() -> Iterator[tuple[tuple[int, int], int, int]]:
    """A wire, and the client's ends of it: the one it writes to and the one it reads from."""
    incoming, to_server = os.pipe()
    from_server, outgoing = os.pipe()
    yield (incoming, outgoing), to_server, from_server
    for descriptor in (incoming, to_server, from_server, outgoing):
        with suppress(OSError):
            os.close(descriptor)


async def no_wait() -> None:
    return


async def test_messages_go_both_ways_and_reading_ends_with_the_client(
    ends: tuple[tuple[int, int], int, int],
) -> None:
    wire, to_server, from_server = ends
    with anyio.fail_after(30):
        async with open_message_streams(*wire, no_wait) as (incoming, outgoing):
            os.write(to_server, PING + b"\n \n\xef\xbb\xbf\r\n\nnonsense\n")
            os.close(to_server)
            received = await incoming.receive()
            assert isinstance(received, SessionMessage)
            await outgoing.send(
                SessionMessage(JSONRPCResponse(jsonrpc="2.0", id=1, result={"a": 1}))
            )
            with pytest.raises(anyio.EndOfStream):
                await incoming.receive()
    lines = os.read(from_server, 65_536).splitlines()
    answers = {answer["id"]: answer for answer in map(json.loads, lines)}
    assert answers[1]["result"] == {"a": 1}
    assert answers[None]["error"]["code"] == -32700


async def test_a_long_message_reaches_a_slow_client_whole(
    ends: tuple[tuple[int, int], int, int],
) -> None:
    wire, _, from_server = ends
    received = bytearray()

    def read_slowly() -> None:
        while not received.endswith(b"\n"):
            received.extend(os.read(from_server, 1000))

    reader = threading.Thread(target=read_slowly)
    reader.start()
    message = JSONRPCNotification(jsonrpc="2.0", method="m", params={"text": "x" * 1_000_000})
    with anyio.fail_after(30):
        async with open_message_streams(*wire, no_wait) as (_, outgoing):
            await outgoing.send(SessionMessage(message))
            await anyio.to_thread.run_sync(reader.join)
    assert len(json.loads(received)["params"]["text"]) == 1_000_000


async def test_a_client_that_does_not_read_cannot_hold_the_server_up(
    ends: tuple[tuple[int, int], int, int],
) -> None:
    wire, _, _ = ends
    big: dict[str, Any] = {"text": "x" * 1_000_000}
    message = SessionMessage(JSONRPCNotification(jsonrpc="2.0", method="m", params=big))
    with anyio.fail_after(30):
        async with open_message_streams(*wire, no_wait) as (_, outgoing):
            await outgoing.send(message)
            await anyio.wait_all_tasks_blocked()


async def test_a_client_that_is_gone_is_not_written_to(
    ends: tuple[tuple[int, int], int, int],
) -> None:
    wire, to_server, from_server = ends
    os.close(from_server)
    with anyio.fail_after(30):
        async with open_message_streams(*wire, no_wait) as (incoming, outgoing):
            for _ in range(2):
                message = JSONRPCNotification(jsonrpc="2.0", method="m")
                await outgoing.send(SessionMessage(message))
            os.write(to_server, PING + b"\n")
            assert isinstance(await incoming.receive(), SessionMessage)


async def test_a_call_waits_until_the_server_is_ready(
    ends: tuple[tuple[int, int], int, int],
) -> None:
    wire, to_server, _ = ends
    ready = anyio.Event()
    with anyio.fail_after(30):
        async with open_message_streams(*wire, ready.wait) as (incoming, _):
            os.write(to_server, PING + b"\n" + PING.replace(b"ping", b"tools/call") + b"\n")
            await incoming.receive()
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.WouldBlock):
                incoming.receive_nowait()
            ready.set()
            assert isinstance(await incoming.receive(), SessionMessage)


CLAIM = """
import os, subprocess, sys
from perstack.server.transports.stdio import redirected_stdio

with redirected_stdio() as (stdin, stdout):
    print("from a library")
    subprocess.run(["echo", "from a child"])
    assert sys.stdin.read() == ""
    os.write(stdout, os.read(stdin, 100))
print("afterwards")
"""


def test_nothing_but_the_protocol_reaches_stdout_and_stdin_is_its_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CLAIM],
        input="for the server\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=20,
        check=True,
    )
    assert done.stdout == "for the server\nafterwards\n"
    assert sorted(done.stderr.splitlines()) == ["from a child", "from a library"]
