"""What a client sees on the wire: only protocol on stdout, whatever goes in."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.server.wire import ENVELOPE, WireServer

pytestmark = pytest.mark.slow

TOML = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.toml"

[experts."speaker"]
description = "Says something."
instruction = "Speak."

[experts."worker"]
description = "Runs a command."
instruction = "Work."
delegates = ["@worker/aide"]

[experts."@worker/aide"]
instruction = "Help."
"""
SCRIPT = """
[[experts.speaker]]
text = "You said: {{query}}"

[[experts.worker]]

[[experts.worker.toolCalls]]
name = "exec"
args = { command = "sh", args = ["-c", "echo loud; echo louder >&2"], cwd = "." }

[[experts.worker]]
text = "It is done."
"""
ODDITIES = [
    b"\x00\x01\xfe\xff\n",
    b"not json\n",
    b"\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b"17\n",
    b'{"jsonrpc":"2.0","id":null,"method":"tools/list"}\n',
    b'{"jsonrpc":"2.0","id":{},"method":"tools/list"}\n',
    b'{"jsonrpc":"1.0","id":99,"method":"tools/list"}\n',
    b'{"jsonrpc":"2.0","id":98,"result":{}}\n',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4711}}\n',
    b'{"jsonrpc":"2.0","method":"notifications/no-such-thing"}\n',
    b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}\n',
    b"[" * 100_000 + b"\n",
    b"x" * 1_048_576 + b"\n",
    b'{"jsonrpc":"2.0","id":97,"method":"tools/call","params":{"name":7}}\n',
    b'{"jsonrpc":"2.0","id":96,"method":"tools/call","params":[]}\n',
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "perstack.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "script.toml").write_text(SCRIPT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Generator[WireServer]:
    with WireServer(folder) as server:
        yield server


def test_a_call_is_answered_in_text_and_in_structure(server: WireServer) -> None:
    server.handshake()
    result = server.answer(server.call("speaker", query="hello"))["result"]
    structured = result["structuredContent"]
    assert result["content"][0]["text"] == "You said: hello"
    assert (structured["text"], structured["status"]) == ("You said: hello", "completed")
    assert structured["job_id"] in result["content"][1]["text"]
    assert "completed" in result["content"][1]["text"]


def test_a_client_of_the_newest_protocol_needs_no_handshake(server: WireServer) -> None:
    tools = server.ask("tools/list", {"_meta": ENVELOPE})["result"]["tools"]
    assert {"speaker", "worker", "perstack_job"} <= {tool["name"] for tool in tools}
    arguments = {"name": "speaker", "arguments": {"query": "hi"}, "_meta": ENVELOPE}
    result = server.ask("tools/call", arguments)["result"]
    assert result["structuredContent"]["text"] == "You said: hi"


def test_only_messages_reach_stdout(server: WireServer) -> None:
    server.handshake()
    server.ask("tools/list")
    server.answer(server.call("worker", query="work"))
    code = server.close()
    assert code == 0
    for line in server.lines:
        assert json.loads(line)["jsonrpc"] == "2.0"


def test_a_line_that_is_no_message_does_not_end_the_server(server: WireServer) -> None:
    server.handshake()
    for garbage in ODDITIES:
        server.write(garbage)
        assert server.ask("tools/list")["result"]["tools"], garbage
    assert server.close() == 0


def test_garbage_before_the_handshake_does_not_end_the_server(server: WireServer) -> None:
    for garbage in ODDITIES:
        server.write(garbage)
    assert server.handshake()["serverInfo"]["name"] == "perstack"
    assert server.ask("tools/list")["result"]["tools"]


def test_a_query_of_any_text_comes_back_as_it_was(server: WireServer) -> None:
    query = 'line\u2028two "quoted" \\ \u0001 \x7f 漢字 🙂'
    server.handshake()
    result = server.answer(server.call("speaker", query=query))["result"]
    assert result["structuredContent"]["text"] == f"You said: {query}"


def test_tools_are_listed_before_anything_heavy_is_imported(folder: Path) -> None:
    with WireServer(folder, options=("-X", "importtime")) as server:
        server.handshake()
        server.ask("tools/list")
        listed = server.stderr
    imported = {line.rsplit("|", 1)[-1].strip() for line in listed.splitlines()}
    heavy = {"litellm", "opentelemetry.sdk", "grpc", "openai", "numpy"}
    assert not heavy & imported
