"""How a server, a call and a job end: closed pipes, signals and cancelled requests."""

import json
import signal
from pathlib import Path

import pytest

from tests.server.wire import WireServer

pytestmark = pytest.mark.slow

TOML = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.toml"

[experts."sleeper"]
description = "Takes its time."
instruction = "Sleep."
"""
SCRIPT = """
[[experts.sleeper]]

[[experts.sleeper.toolCalls]]
name = "exec"
args = { command = "sh", args = ["-c", "echo $$ > began; COMMAND"], cwd = "." }

[[experts.sleeper]]
text = "Awake."
"""


def prepare(folder: Path, command: str) -> None:
    """Write the definitions; the expert executes `command` once."""
    (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
    (folder / "script.toml").write_text(SCRIPT.replace("COMMAND", command), encoding="utf-8")


def started(server: WireServer) -> int:
    """A call whose job has come to its command."""
    server.handshake()
    server.ask("tools/list")
    request = server.call("sleeper", query="sleep")
    while "exec" not in server.progress()["message"]:
        continue
    return request


def is_alive(folder: Path) -> bool:
    """Whether the command of the job is still there."""
    marker = folder / "began"
    if not marker.exists():
        return False
    pid = marker.read_text(encoding="utf-8").strip()
    return Path(f"/proc/{pid}").exists()


def resumed(folder: Path, job_id: str) -> str:
    """What the job answers when another server goes on with it."""
    prepare(folder, "true")
    with WireServer(folder) as server:
        server.handshake()
        result = server.answer(server.call("sleeper", query="", job_id=job_id))["result"]
        text: str = result["structuredContent"]["text"]
        return text


def newest_job(folder: Path) -> tuple[str, str]:
    """The id and the status of the newest job, as another server sees it."""
    with WireServer(folder) as server:
        server.handshake()
        jobs = server.answer(server.call("perstack_jobs"))["result"]["structuredContent"]["jobs"]
        return jobs[0]["job_id"], jobs[0]["status"]


def test_an_idle_server_ends_when_its_client_closes(tmp_path: Path) -> None:
    prepare(tmp_path, "true")
    with WireServer(tmp_path) as server:
        server.handshake()
        code = server.close()
    assert code == 0


def test_a_client_that_closes_at_once_gets_a_clean_end(tmp_path: Path) -> None:
    prepare(tmp_path, "true")
    with WireServer(tmp_path) as server:
        code = server.close()
    assert code == 0
    assert "Traceback" not in server.stderr


def test_a_client_that_leaves_stops_its_jobs_and_they_can_be_resumed(tmp_path: Path) -> None:
    prepare(tmp_path, "sleep 600")
    with WireServer(tmp_path) as server:
        started(server)
        code = server.close()
    assert code == 0
    assert "Traceback" not in server.stderr
    assert not is_alive(tmp_path)
    job_id, status = newest_job(tmp_path)
    assert status == "cancelled"
    assert resumed(tmp_path, job_id) == "Awake."


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_jobs_and_they_can_be_resumed(
    tmp_path: Path, signal_number: signal.Signals
) -> None:
    prepare(tmp_path, "sleep 600")
    with WireServer(tmp_path) as server:
        started(server)
        code = server.interrupt(signal_number)
    assert code in (0, 128 + signal_number)
    assert "Traceback" not in server.stderr
    assert not is_alive(tmp_path)
    job_id, status = newest_job(tmp_path)
    assert status == "cancelled"
    assert resumed(tmp_path, job_id) == "Awake."


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_server(tmp_path: Path, signal_number: signal.Signals) -> None:
    prepare(tmp_path, "true")
    with WireServer(tmp_path) as server:
        server.handshake()
        code = server.interrupt(signal_number)
    assert code in (0, 128 + signal_number)
    assert "Traceback" not in server.stderr


def test_a_cancelled_call_stops_its_job_and_the_server_goes_on(tmp_path: Path) -> None:
    prepare(tmp_path, "sleep 600")
    with WireServer(tmp_path) as server:
        request = started(server)
        server.notify("notifications/cancelled", {"requestId": request, "reason": "enough"})
        jobs = server.answer(server.call("perstack_jobs"))["result"]["structuredContent"]["jobs"]
        stopped = server.answer(server.call("perstack_job", job_id=jobs[0]["job_id"]))["result"]
        assert stopped["structuredContent"]["status"] == "cancelled"
        assert not stopped.get("isError")
        assert not is_alive(tmp_path)


def test_a_job_outlives_the_call_that_ran_out_of_time(tmp_path: Path) -> None:
    prepare(tmp_path, "while [ ! -e go ]; do sleep 0.05; done")
    with WireServer(tmp_path, wait_seconds=0.2) as server:
        early = server.answer(started(server))["result"]
        assert early["structuredContent"]["status"] == "running"
        assert not early.get("isError")
        assert "perstack_job" in early["content"][-1]["text"]
        (tmp_path / "go").touch()
        job_id = early["structuredContent"]["job_id"]
        waiting = server.call("perstack_job", job_id=job_id, wait_seconds=20)
        late = server.answer(waiting)["result"]
    assert late["structuredContent"]["status"] == "completed"
    assert late["structuredContent"]["text"] == "Awake."


def test_progress_only_grows_and_says_who_does_what(tmp_path: Path) -> None:
    prepare(tmp_path, "true")
    with WireServer(tmp_path) as server:
        server.handshake()
        server.answer(server.call("sleeper", query="sleep"))
        server.close()
    reports = [
        message["params"]
        for message in map(json.loads, server.lines)
        if message.get("method") == "notifications/progress"
    ]
    values = [report["progress"] for report in reports]
    assert values == sorted(set(values))
    assert any("sleeper" in r["message"] and "exec" in r["message"] for r in reports)


def test_a_client_that_stops_reading_does_not_keep_the_server_alive(tmp_path: Path) -> None:
    prepare(tmp_path, "true")
    with WireServer(tmp_path) as server:
        server.handshake()
        assert server.process.stdout is not None
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            server.request("tools/list")
        server.process.send_signal(signal.SIGCONT)
        code = server.close()
    assert code == 0
