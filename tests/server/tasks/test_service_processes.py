"""Tasks whose process has ended, or that another process works on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import MCPError

from perstack.errors import JobStateError
from perstack.server.caller import Caller
from perstack.server.tasks.service import TaskService
from perstack.settings import EngineLoad
from perstack.store.memory import MemoryStore
from tests.engines import engine_on
from tests.fakes import FakeModel, FakeSkills, Reply, call, calls, done
from tests.server.harness import connected, until_called
from tests.server.tasks.client import task_client
from tests.server.tasks.test_service import AT_ONCE, WORKING

pytestmark = pytest.mark.anyio


def common(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what the protocol adds."""
    return {name: value for name, value in answer.items() if name != "_meta"}


@dataclass
class Crowd:
    """Lets no job run until there is room."""

    is_full: bool = True

    async def admit(self, _engine: EngineLoad) -> None:
        if self.is_full:
            raise JobStateError("Too many jobs.", hint="Try again.")


async def begun(folder: Path, store: MemoryStore, skills: FakeSkills) -> str:
    """A task whose server was shut down in the middle of it."""
    async with (
        engine_on(folder, FakeModel({"reviewer": WORKING}), store=store, skills=skills) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server) as client,
    ):
        task = (await client.call("reviewer", query="look"))["taskId"]
        await until_called(skills)
        return task


async def test_a_task_whose_server_was_shut_down_goes_on_when_its_client_asks(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    task = await begun(tmp_path, store, FakeSkills(gate=anyio.Event()))
    replies: list[Reply] = [done("after all")]
    async with (
        engine_on(tmp_path, FakeModel({"reviewer": replies}), store=store) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server) as client,
    ):
        first = await client.get(task)
        completed = await client.until(task)
    assert first["status"] == "working"
    assert completed["status"] == "completed"
    assert completed["result"]["structuredContent"]["text"] == "after all"
    assert completed["createdAt"] == first["createdAt"]


async def test_a_task_whose_server_was_shut_down_can_be_cancelled(tmp_path: Path) -> None:
    store = MemoryStore()
    task = await begun(tmp_path, store, FakeSkills(gate=anyio.Event()))
    async with (
        engine_on(tmp_path, FakeModel({}), store=store) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server) as client,
    ):
        await client.cancel(task)
        cancelled = await client.get(task)
    async with engine_on(tmp_path, FakeModel({}), store=store) as engine:
        elsewhere = await TaskService(engine).get(task, Caller())
    assert cancelled["status"] == "cancelled"
    assert elsewhere == {"resultType": "complete", **common(cancelled)}


async def test_a_task_that_cannot_be_taken_up_again_has_failed(tmp_path: Path) -> None:
    store = MemoryStore()
    task = await begun(tmp_path, store, FakeSkills(gate=anyio.Event()))
    toml = '[experts."other"]\ninstruction = "Work."\n'
    async with (
        engine_on(tmp_path, FakeModel({}), store=store, toml=toml) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server) as client,
    ):
        failed = await client.get(task)
        again = await client.get(task)
    assert failed["status"] == "failed"
    assert "'reviewer' is not defined" in failed["error"]["message"]
    assert isinstance(failed["error"]["code"], int)
    assert "result" not in failed
    assert again == failed


async def test_a_task_of_another_process_is_followed_through_the_store(tmp_path: Path) -> None:
    store = MemoryStore(owner="one", is_alive=lambda _owner: True)
    skills = FakeSkills(gate=anyio.Event())
    async with (
        engine_on(tmp_path, FakeModel({"reviewer": WORKING}), store=store, skills=skills) as mine,
        engine_on(tmp_path, FakeModel({}), store=store.as_owner("two")) as theirs,
        connected(mine, "auto", windows=AT_ONCE) as here,
        connected(theirs, "auto", windows=AT_ONCE) as there,
        task_client(here.server) as one,
        task_client(there.server) as two,
    ):
        task = (await one.call("reviewer", query="look"))["taskId"]
        await until_called(skills)
        working = await two.get(task)
        assert skills.gate is not None
        skills.gate.set()
        completed = await two.until(task)
    assert working["status"] == "working"
    assert working["statusMessage"] == "reviewer · step 1 · echo"
    assert completed["result"]["structuredContent"]["text"] == "late"


async def test_a_call_of_a_job_that_another_process_drives_becomes_its_task(
    tmp_path: Path,
) -> None:
    store = MemoryStore(owner="one", is_alive=lambda _owner: True)
    skills = FakeSkills(gate=anyio.Event())
    replies: list[Reply] = [calls(call("echo", "c1")), done("late")]
    async with (
        engine_on(tmp_path, FakeModel({"reviewer": replies}), store=store, skills=skills) as mine,
        engine_on(tmp_path, FakeModel({}), store=store.as_owner("two")) as theirs,
        connected(mine, "auto", windows=AT_ONCE) as here,
        connected(theirs, "auto", windows=AT_ONCE) as there,
        task_client(here.server) as one,
        task_client(there.server) as two,
    ):
        task = (await one.call("reviewer", query="look"))["taskId"]
        joined = await two.call("reviewer", job_id=task)
        assert skills.gate is not None
        skills.gate.set()
        completed = await two.until(joined["taskId"])
    assert joined["taskId"] == task
    assert completed["status"] == "completed"


async def test_a_task_that_may_not_go_on_now_waits_its_turn(tmp_path: Path) -> None:
    store = MemoryStore()
    task = await begun(tmp_path, store, FakeSkills(gate=anyio.Event()))
    crowd = Crowd()
    replies: list[Reply] = [done("after all")]
    async with (
        engine_on(
            tmp_path, FakeModel({"reviewer": replies}), store=store, admit=crowd.admit
        ) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server) as client,
    ):
        waiting = await client.get(task)
        crowd.is_full = False
        completed = await client.until(task)
    assert waiting["status"] == "working"
    assert waiting["statusMessage"] == "Too many jobs."
    assert completed["result"]["structuredContent"]["text"] == "after all"


async def test_who_may_only_read_jobs_does_not_have_one_go_on(tmp_path: Path) -> None:
    store = MemoryStore()
    task = await begun(tmp_path, store, FakeSkills(gate=anyio.Event()))
    reader = Caller(scopes=frozenset({"perstack:jobs.read"}), is_modern=True, has_tasks=True)
    async with engine_on(tmp_path, FakeModel({}), store=store) as engine:
        standing = await TaskService(engine).get(task, reader)
        assert standing["status"] == "working"
        assert engine.running(task) is None


async def test_an_answer_that_cannot_be_taken_on_now_is_refused_and_can_be_given_again(
    tmp_path: Path,
) -> None:
    crowd = Crowd(is_full=False)
    replies: list[Reply] = [calls(call("askUser", "q1", question="Which?")), done("painted")]
    answer = {"action": "accept", "content": {"answer": "cobalt"}}
    async with (
        engine_on(tmp_path, FakeModel({"reviewer": replies}), admit=crowd.admit) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server, has_forms=True) as client,
    ):
        task = (await client.call("reviewer", query="paint"))["taskId"]
        waiting = await client.until(task, "input_required")
        crowd.is_full = True
        with pytest.raises(MCPError, match="Too many jobs"):
            await client.update(task, q1=answer)
        still = await client.get(task)
        crowd.is_full = False
        await client.update(task, q1=answer)
        completed = await client.until(task)
    assert still == waiting
    assert completed["result"]["structuredContent"]["text"] == "painted"
