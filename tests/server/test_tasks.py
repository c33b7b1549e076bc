"""Calls that become tasks, for clients that declare the extension."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack.server.windows import Windows
from tests.fakes import FakeModel, FakeSkills, Reply, call, calls, done
from tests.server.stage import connected, engine_on
from tests.server.task_client import TaskClient, task_client

pytestmark = pytest.mark.anyio

WORKING: list[Reply] = [calls(call("echo", "c1")), done("late")]
AT_ONCE = Windows(grace_seconds=0)
FINAL = ("completed", "cancelled", "failed")


@asynccontextmanager
async def tasks_on(
    folder: Path,
    replies: list[Reply],
    *,
    skills: FakeSkills | None = None,
    windows: Windows = AT_ONCE,
    **client: Any,
) -> AsyncGenerator[TaskClient]:
    model = FakeModel({"reviewer": replies})
    async with (
        engine_on(folder, model, skills=skills) as engine,
        connected(engine, "auto", windows=windows) as here,
        task_client(here.server, **client) as there,
    ):
        yield there


async def until(client: TaskClient, task_id: str, *statuses: str) -> dict[str, Any]:
    with anyio.fail_after(5):
        while (answer := await client.get(task_id))["status"] not in (statuses or FINAL):
            await anyio.lowlevel.checkpoint()
    return answer


async def test_a_call_that_is_not_answered_in_time_becomes_a_task(tmp_path: Path) -> None:
    skills = FakeSkills(gate=anyio.Event())
    async with tasks_on(tmp_path, WORKING, skills=skills) as client:
        created = await client.call("reviewer", query="look")
        working = await client.get(created["taskId"])
        assert skills.gate is not None
        skills.gate.set()
        completed = await until(client, created["taskId"])
    assert created["resultType"] == "task"
    assert created["status"] == "working"
    assert (created["ttlMs"], created["pollIntervalMs"]) == (None, 2000)
    assert working["status"] == "working"
    assert "result" not in working
    assert completed["resultType"] == "complete"
    assert completed["status"] == "completed"
    assert completed["result"]["content"][0]["text"] == "late"
    assert completed["result"]["structuredContent"]["status"] == "completed"
    assert completed["createdAt"] == created["createdAt"]
