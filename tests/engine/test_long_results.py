"""A megabyte from a real MCP server: what is stored, and how it is read after a kill."""

import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from perstack.stores import store_path
from tests.cli.harness import process
from tests.skills.servers import report

SERVER = Path(report.__file__)
WHOLE = "\n".join(report.LINES)
TOML = f"""
[provider]
providerName = "scripted"

[provider.setting]
script = "script.json"

[experts."a"]
instruction = "Work."

[experts."a".skills."report"]
type = "mcpStdioSkill"
command = {json.dumps(sys.executable)}
args = ["-S", "-E", {json.dumps(str(SERVER))}]
"""


def tool_call(call_id: str, name: str, **args: Any) -> dict[str, Any]:
    return {"toolCalls": [{"id": call_id, "name": name, "args": args}]}


SCRIPT = [
    tool_call("c1", "report"),
    # The parent of a command is the process that the job runs in.
    tool_call("c2", "exec", command="sh", args=["-c", "kill -9 $PPID"]),
    tool_call("c3", "readToolResult", toolCallId="c1", pattern="needle"),
    tool_call("c4", "readToolResult", toolCallId="c1", offset=WHOLE.index("009000"), limit=200),
    tool_call("c5", "readToolResult", toolCallId="c9"),
    tool_call("c6", "attemptCompletion", result="over"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "perstack.toml").write_text(TOML, encoding="utf-8")
    script = json.dumps({"experts": {"a": SCRIPT}})
    (tmp_path / "script.json").write_text(script, encoding="utf-8")
    return tmp_path


def texts(events: list[dict[str, Any]]) -> dict[str, str]:
    """The results that were recorded, by call."""
    return {
        event["toolResult"]["id"]: event["toolResult"]["result"][0]["text"]
        for event in events
        if event["type"] == "recordToolResult"
    }


def test_a_megabyte_is_read_and_searched_after_the_process_was_killed(folder: Path) -> None:
    killed = process("run", "a", "go", cwd=folder)
    stored = texts(json.loads(process("log", "--json", cwd=folder).stdout)["events"])
    resumed = process("run", "--continue", cwd=folder)

    assert killed.code == -9
    assert set(stored) == {"c1"}
    shortened = stored["c1"]
    assert len(shortened) <= 36_000
    assert shortened.startswith(report.LINES[0])
    assert shortened.endswith(report.LINES[-1])
    assert 'toolCallId "c1"' in shortened
    assert resumed.code == 0, resumed.stderr
    results = texts(resumed.events)
    assert "its effect is unknown" in results["c2"]
    heading, place = results["c3"].splitlines()
    assert heading == f"[1 found from offset 0 of {len(WHOLE)}; there are no others]"
    assert place == f"offset {WHOLE.index('009000')}, line 9001: {report.LINES[9000]}"
    assert results["c4"].splitlines()[1:] == report.LINES[9000:9002]
    assert "These were: c1 (report)." in results["c5"]
    assert [event["text"] for event in resumed.events if event["type"] == "completeRun"] == ["over"]
    replayed = process("replay", cwd=folder)
    assert replayed.code == 0, replayed.stdout + replayed.stderr


def test_the_whole_is_stored_once_and_no_event_before_it_knows_of_it(folder: Path) -> None:
    process("run", "a", "go", cwd=folder)

    with sqlite3.connect(store_path(folder)) as connection:
        sizes = connection.execute("SELECT length(bytes) FROM blobs ORDER BY 1 DESC").fetchall()
        bodies = connection.execute("SELECT body FROM events WHERE body IS NOT NULL").fetchall()
    connection.close()

    assert [size for (size,) in sizes if size > 100_000] == [len(WHOLE)]
    assert sum(size for (size,) in sizes) < len(WHOLE) + 50_000
    assert [body.count("wholeText") for (body,) in bodies if "wholeText" in body] == [1]
    assert sum(len(body) for (body,) in bodies) < 20_000
