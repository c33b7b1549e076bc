"""What is made of the lines that skill servers write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.dispatcher import coerce_request_id
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from perstack.skills.message_reader import MessageReader


class Server:
    """What a server writes, to a client that waits for the answers to some requests."""

    def __init__(self, **open_requests: str) -> None:
        self.noise: list[str] = []
        self.reader = MessageReader(self.noise.append)
        for name, method in open_requests.items():
            self.asked(int(name.removeprefix("r")), method)

    def asked(self, request_id: int, method: str = "tools/call") -> None:
        request = JSONRPCRequest(jsonrpc="2.0", id=request_id, method=method)
        self.reader.requests.sent(request)

    def told(self, method: str = "notifications/initialized", **params: Any) -> None:
        notification = JSONRPCNotification(jsonrpc="2.0", method=method, params=params)
        self.reader.requests.sent(notification)

    def writes(self, *lines: str | bytes) -> list[JSONRPCMessage]:
        return [
            message
            for line in lines
            for message in self.reader.read_line(line if isinstance(line, bytes) else line.encode())
        ]

    def waits(self) -> list[JSONRPCMessage]:
        assert self.reader.wait_seconds is not None
        return self.reader.end_wait()


def calling() -> Server:
    return Server(r4="tools/call")


def outcome(messages: list[JSONRPCMessage]) -> tuple[object, Any]:
    """The id and the result or the error's message of the only message."""
    (message,) = messages
    if isinstance(message, JSONRPCResponse):
        return coerce_request_id(message.id), message.result
    assert isinstance(message, JSONRPCError)
    return message.id, message.error.message


def ids(messages: list[JSONRPCMessage]) -> list[object]:
    return [getattr(message, "id", None) for message in messages]


RESULT = {"content": [{"type": "text", "text": "done"}]}
GOOD = json.dumps({"jsonrpc": "2.0", "id": 4, "result": RESULT})


@pytest.mark.parametrize(
    "line",
    [
        GOOD,
        "\ufeff" + GOOD,
        "Loading model... " + GOOD,
        "[12:00] {debug} " + GOOD,
        "10 %\r50 %\r" + GOOD,
        "\x1b[2J\x00" + GOOD,
        "data: " + GOOD,
        GOOD + " done in 3 ms",
        GOOD + "\r",
        f"[{GOOD}]",
        GOOD.replace('"jsonrpc": "2.0", ', ""),
        GOOD.replace('"2.0"', "2.0"),
        GOOD.replace('"2.0"', '"1.0"'),
        GOOD.replace('"id": 4', '"id": "4"'),
        GOOD.replace('"id": 4', '"id": 4.0'),
        GOOD.replace('"id": 4', '"id": null'),
        GOOD.replace('"id": 4, ', ""),
        GOOD.replace('"id": 4', '"id": 0'),
        GOOD.replace('"id": 4', '"id": "unknown"'),
        GOOD.replace('"id": 4', '"id": 4, "error": null'),
        GOOD.replace('"id": 4', '"id": 4, "error": false'),
        GOOD.replace('"id": 4', '"id": 4, "method": "tools/call"'),
    ],
)
def test_a_line_that_is_nearly_an_answer_is_taken(line: str) -> None:
    assert outcome(calling().writes(line)) == (4, RESULT)


@pytest.mark.parametrize(
    ("inner", "text"),
    [
        (rb"page \ud83d", "page \ufffd"),
        (rb"\udc00 page \ud83d\ude42", "\ufffd page 🙂"),
        (b"caf\xe9", "caf\ufffd"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"a\tb\x00c\x1b[0m", "a\tb\x00c\x1b[0m"),
        (b"a\xef\xbb\xbfb", "a\ufeffb"),
    ],
)
def test_a_text_that_is_no_text_is_repaired(inner: bytes, text: str) -> None:
    line = GOOD.encode().replace(b"done", inner)

    assert outcome(calling().writes(line)) == (4, {"content": [{"type": "text", "text": text}]})


@pytest.mark.parametrize("indent", [1, 2, "\t"])
def test_an_answer_may_span_lines(indent: int | str) -> None:
    lines = json.dumps(json.loads(GOOD), indent=indent).splitlines()
    server = calling()

    assert server.writes("Here it comes: " + lines[0], *lines[1:-1]) == []
    assert outcome(server.writes(lines[-1])) == (4, RESULT)


def test_a_text_in_an_answer_may_span_lines() -> None:
    server = calling()

    answer = server.writes(*GOOD.replace("done", "def f():\n\n    return {\n").split("\n"))

    text = "def f():\n\n    return {\n"
    assert outcome(answer) == (4, {"content": [{"type": "text", "text": text}]})


def test_one_line_may_hold_several_messages() -> None:
    server = Server(r4="tools/call", r5="tools/call", r6="tools/call")
    note = '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":{"id":4}}}'
    fifth, sixth = GOOD.replace("4", "5"), GOOD.replace("4", "6")

    messages = server.writes(f"[{note}, {GOOD}]", fifth + sixth)

    assert ids(messages) == [None, 4, 5, 6]
    assert server.noise == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"code": "E_BAD", "message": "date is in the past"}, "E_BAD: date is in the past"),
        ({"code": "-32602", "message": "no date"}, "no date"),
        ({"code": None, "message": "no date"}, "no date"),
        ({"code": 1.0, "message": "no date"}, "no date"),
        ({"message": "no code"}, "no code"),
        ({"code": -32603}, '{"code": -32603}'),
        ({"code": -32603, "message": {"en": "no"}}, '{"code": -32603, "message": {"en": "no"}}'),
        ("it failed", "it failed"),
        (["it", "failed"], '["it", "failed"]'),
        (None, "an error without words"),
        ("", "an error without words"),
        (False, "an error without words"),
        ({}, "an error without words"),
        ({"code": -32000, "message": "Connection closed"}, "Connection closed"),
    ],
)
@pytest.mark.parametrize("request_id", [4, None])
def test_an_error_ends_its_call_with_the_servers_words(
    error: object, words: str, request_id: int | None
) -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error})

    assert outcome(calling().writes(line)) == (4, words)


@pytest.mark.parametrize("result", ["done", 7, None, ["a"], True])
def test_a_tools_result_that_is_no_object_is_its_text(result: object) -> None:
    answer = calling().writes(json.dumps({"jsonrpc": "2.0", "id": 4, "result": result}))

    text = result if isinstance(result, str) else json.dumps(result)
    content = [] if result is None else [{"type": "text", "text": text}]
    assert outcome(answer) == (4, {"content": content})


def test_another_result_that_is_no_object_is_an_error() -> None:
    answer = Server(r4="tools/list").writes('{"jsonrpc":"2.0","id":4,"result":[{"name":"look"}]}')

    assert outcome(answer) == (4, 'its result is not an object: [{"name": "look"}]')


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace('"text": "done"', '"text": "say "hi" now"'),
        GOOD.replace('"done"}]', '"done"},]'),
        GOOD.replace('"', "'"),
        GOOD.replace('"done"', "undefined"),
        GOOD.replace('"done"', r'"\x41"'),
        GOOD[:-1].replace('"id": 4, ', "") + ', "id": 4, }',
        GOOD.replace('"id": 4', '"id": four'),
        GOOD.replace('"done"', "[" * 100_000),
        GOOD.replace("result", "Result"),
        '{"jsonrpc": "2.0", "id": 4, "content": []}',
        '{"jsonrpc": "2.0", "id": 4}',
        '{"jsonrpc": "2.0", "content": []}',
    ],
)
def test_an_answer_that_cannot_be_read_ends_its_call_at_once(line: str) -> None:
    server = calling()

    request_id, words = outcome(server.writes(line))

    assert request_id == 4
    assert "its answer cannot be read" in words
    assert "whether it took effect is unknown" in words
    assert line[:16] in words
    assert server.reader.wait_seconds is None


@pytest.mark.parametrize("end", [20, 40, 60, 75, 80, len(GOOD) - 1])
def test_an_answer_that_is_cut_ends_its_call_when_nothing_follows(end: int) -> None:
    server = calling()

    assert server.writes(GOOD[:end]) == []
    request_id, words = outcome(server.waits())

    assert request_id == 4
    assert GOOD[:end].rstrip() in words


def test_an_answer_that_is_cut_ends_its_call_when_another_follows() -> None:
    server = Server(r4="tools/call", r5="tools/call")

    messages = server.writes(GOOD[:60], GOOD.replace('"id": 4', '"id": 5'))

    assert ids(messages) == [4, 5]
    assert [type(message) for message in messages] == [JSONRPCError, JSONRPCResponse]


@pytest.mark.parametrize(
    "line",
    [
        "Welcome to the server!",
        "function() {",
        '{"level":"info","id":9,"msg":"ready"}',
        '{"level":"error","error":"cache miss"}',
        '{"method":"GET","path":"/","id":4}',
        '{"level":"info","id":4,"msg":"started"}',
        "[1, 2, 3]",
        '"id": 4 is served',
        '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"a"b"}}',
        '{"jsonrpc":"2.0","meth',
    ],
)
def test_what_is_no_answer_ends_no_call_and_hides_none(line: str) -> None:
    server = Server(r4="tools/call", r5="tools/call")

    assert outcome(server.writes(line, GOOD)) == (4, RESULT)
    assert server.noise


def test_what_follows_a_lonely_bracket_is_not_lost() -> None:
    server = calling()

    assert server.writes("starting {", "  port: 1", "}") == []
    assert outcome(server.writes("ready {", GOOD.replace('"jsonrpc": "2.0", ', ""))) == (4, RESULT)
    assert server.noise == ["starting", "{\n  port: 1\n}", "ready", "{"]


def test_a_request_that_a_server_echoes_is_ignored() -> None:
    server = calling()
    echo = '{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"look"}}'

    assert outcome(server.writes(echo, "received: " + echo, GOOD)) == (4, RESULT)


@pytest.mark.parametrize("version", ['"jsonrpc":"2.0",', ""])
def test_a_servers_own_requests_and_notifications_pass(version: str) -> None:
    server = calling()

    asks, tells = server.writes(
        f'{{{version}"id":4,"method":"elicitation/create","params":{{"message":"Name?"}}}}',
        f'{{{version}"id":null,"method":"notifications/progress","params":{{"progress":1}}}}',
    )

    assert isinstance(asks, JSONRPCRequest)
    assert asks.params == {"message": "Name?"}
    assert isinstance(tells, JSONRPCNotification)
    assert outcome(server.writes(GOOD)) == (4, RESULT)


def test_an_error_without_an_id_waits_until_one_call_is_left() -> None:
    server = Server(r4="tools/call", r5="tools/call")
    error = '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"out of memory"}}'

    assert server.writes(error) == []
    server.asked(6)
    messages = server.writes(GOOD)

    assert ids(messages) == [4, 5]
    assert outcome(messages[1:]) == (5, "out of memory")


def test_as_many_errors_without_ids_as_calls_end_them_all() -> None:
    server = Server(r4="tools/call", r5="tools/call")
    error = '{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"out of memory"}}'

    messages = server.writes(error, error)

    assert ids(messages) == [4, 5]


def test_a_reply_to_a_notification_is_no_answer_to_the_request_after_it() -> None:
    server = Server()
    server.told()
    server.asked(4, "tools/list")
    reply = '{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"unknown notification"}}'

    assert server.writes(reply) == []
    assert outcome(server.writes('{"jsonrpc":"2.0","id":4,"result":{"tools":0}}')) == (
        4,
        {"tools": 0},
    )
    assert server.reader.wait_seconds is None


def test_an_error_without_an_id_after_a_notification_ends_the_request_that_stays_unanswered() -> (
    None
):
    server = Server()
    server.told()
    server.asked(4, "tools/list")

    assert server.writes('{"jsonrpc":"2.0","id":null,"error":{"message":"no tools today"}}') == []
    assert outcome(server.waits()) == (4, "no tools today")


def test_a_cancelled_call_is_no_candidate() -> None:
    server = Server(r4="tools/call", r5="tools/call")
    server.told("notifications/cancelled", requestId=5)

    assert server.writes(GOOD.replace('"id": 4', '"id": 5')) == []
    assert server.writes('{"jsonrpc":"2.0","error":{"code":1,"message":"no"}}') == []
    assert outcome(server.waits()) == (4, "no")


@given(st.lists(st.text(alphabet='{}[]":,\\ \nabid4\ufeff', max_size=40), max_size=8))
def test_no_noise_hides_the_answer_that_follows_it(noise: list[str]) -> None:
    server = calling()

    messages = server.writes(*noise, GOOD)

    assert [message.id for message in messages if isinstance(message, JSONRPCResponse)] == [4]
