"""Jobs across servers: the process that began a job need not be the one that answers for it."""

import time
from pathlib import Path
from typing import Any

import pytest

from perstack.server.caller import TASKS_EXTENSION
from tests.server.transports.test_stdio_end import is_alive, newest_job, prepare, resumed, started
from tests.server.wire import ENVELOPE, PATIENCE_SECONDS, Message, WireServer

pytestmark = pytest.mark.slow

UNTIL_TOLD = "while [ ! -e go ]; do sleep 0.05; done"


def result(server: WireServer, tool: str, **arguments: Any) -> Message:
    """The result of a call."""
    answer: Message = server.answer(server.call(tool, **arguments))["result"]
    return answer


def test_a_job_of_one_server_is_waited_for_at_another(tmp_path: Path) -> None:
    prepare(tmp_path, UNTIL_TOLD)
    with WireServer(tmp_path) as one, WireServer(tmp_path) as other:
        asked = started(one)
        other.handshake()
        listed = result(other, "perstack_jobs", status="running")["structuredContent"]["jobs"]
        job_id = listed[0]["job_id"]
        waiting = other.call("perstack_job", job_id=job_id, wait_seconds=20)
        early = result(other, "sleeper", query="sleep", job_id=job_id, wait_seconds=0)
        assert early["structuredContent"]["status"] == "running"
        (tmp_path / "go").touch()
        assert one.answer(asked)["result"]["structuredContent"]["text"] == "Awake."
        assert other.answer(waiting)["result"]["structuredContent"]["text"] == "Awake."


def test_a_job_of_another_server_takes_no_new_query_but_can_be_cancelled(tmp_path: Path) -> None:
    prepare(tmp_path, UNTIL_TOLD)
    with WireServer(tmp_path) as one, WireServer(tmp_path) as other:
        asked = started(one)
        other.handshake()
        job_id = result(other, "perstack_jobs")["structuredContent"]["jobs"][0]["job_id"]
        refused = result(other, "sleeper", query="something else", job_id=job_id)
        assert refused["isError"]
        assert job_id in refused["content"][0]["text"]
        cancelled = result(other, "perstack_cancel", job_id=job_id)["structuredContent"]
        assert cancelled["status"] == "cancelled"
        assert one.answer(asked)["result"]["structuredContent"]["status"] == "cancelled"
        assert not is_alive(tmp_path)


def test_a_job_whose_server_was_killed_is_interrupted_and_can_be_resumed(tmp_path: Path) -> None:
    prepare(tmp_path, UNTIL_TOLD)
    with WireServer(tmp_path) as server:
        started(server)
        server.process.kill()
        server.process.wait(30)
    (tmp_path / "go").touch()
    job_id, status = newest_job(tmp_path)
    assert status == "interrupted"
    assert resumed(tmp_path, job_id) == "Awake."


def test_a_task_of_a_server_that_was_killed_goes_on_at_another(tmp_path: Path) -> None:
    prepare(tmp_path, UNTIL_TOLD)
    taking: Message = {
        **ENVELOPE,
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS_EXTENSION: {}}},
    }

    def status(server: WireServer, task: str) -> Message:
        answer: Message = server.ask("tasks/get", {"taskId": task, "_meta": taking})["result"]
        return answer

    with WireServer(tmp_path) as one, WireServer(tmp_path) as other:
        arguments: Message = {"query": "sleep", "wait_seconds": 1}
        call: Message = {"name": "sleeper", "arguments": arguments, "_meta": taking}
        task = one.ask("tools/call", call)["result"]["taskId"]
        assert status(other, task)["status"] == "working"
        one.process.kill()
        one.process.wait(30)
        (tmp_path / "go").touch()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (answer := status(other, task))["status"] == "working":
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert answer["status"] == "completed"
    assert answer["result"]["structuredContent"]["text"] == "Awake."


def test_a_call_cancelled_in_the_newest_protocol_stops_its_job(tmp_path: Path) -> None:
    prepare(tmp_path, "sleep 60")

    def call(tool: str, arguments: Message) -> Message:
        meta = {**ENVELOPE, "progressToken": tool}
        return {"name": tool, "arguments": arguments, "_meta": meta}

    with WireServer(tmp_path) as server:
        request = server.request("tools/call", call("sleeper", {"query": "sleep"}))
        while "exec" not in server.progress()["message"]:
            continue
        server.notify("notifications/cancelled", {"requestId": request, "_meta": ENVELOPE})
        jobs = server.ask("tools/call", call("perstack_jobs", {}))["result"]["structuredContent"]
        waited = server.ask(
            "tools/call", call("perstack_job", {"job_id": jobs["jobs"][0]["job_id"]})
        )
        assert waited["result"]["structuredContent"]["status"] == "cancelled"
        assert not is_alive(tmp_path)
