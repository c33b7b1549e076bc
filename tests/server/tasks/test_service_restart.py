"""What clients were told of a task holds after a restart of the server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from perstack.runtime.ports import Store
from perstack.runtime.start_plan import JobRequest
from perstack.store.memory import MemoryStore
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.fakes import FakeModel, FakeSkills, Reply, done
from tests.server.harness import TOML, connected, engine_on
from tests.server.tasks.client import TaskClient, task_client
from tests.server.tasks.test_service import AT_ONCE
from tests.server.tasks.test_service_elicitation import ASKING, CLEANING
from tests.server.tasks.test_service_processes import begun, common
from tests.server.tools.test_elicitation_of_skills import MODERN

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(
    folder: Path,
    store: Store,
    replies: list[Reply],
    *,
    has_forms: bool = False,
    toml: str = TOML,
) -> AsyncGenerator[TaskClient]:
    """A client of a server that has just started on a store."""
    model = FakeModel({"reviewer": replies})
    async with (
        engine_on(folder, model, store=store, toml=toml, has_real_skills=toml == MODERN) as engine,
        connected(engine, "auto", windows=AT_ONCE) as here,
        task_client(here.server, has_forms=has_forms) as client,
    ):
        yield client


async def test_a_completed_task_whose_job_still_ran_stays_completed(tmp_path: Path) -> None:
    store = MemoryStore()
    async with served(tmp_path, store, list(CLEANING), toml=MODERN) as client:
        task = (await client.call("reviewer", query="clean"))["taskId"]
        completed = await client.until(task)
    async with served(tmp_path, store, [done("x")], has_forms=True, toml=MODERN) as client:
        again = await client.get(task)
        await client.update(task, anything={"action": "decline"})
        await client.cancel(task)
        after = await client.get(task)
    assert completed["status"] == "completed"
    assert completed["result"]["structuredContent"]["status"] == "needs_input"
    assert common(again) == common(after) == common(completed)


async def test_a_completed_task_whose_form_was_closed_stays_completed(tmp_path: Path) -> None:
    async with open_sqlite_store(store_path(tmp_path)) as store:
        async with served(tmp_path, store, list(ASKING), has_forms=True) as client:
            task = (await client.call("reviewer", query="paint"))["taskId"]
            await client.until(task, "input_required")
            await client.update(task, q1={"action": "cancel"})
            completed = await client.get(task)
        async with served(tmp_path, store, [], has_forms=True) as client:
            again = await client.get(task)
    assert completed["status"] == "completed"
    assert common(again) == common(completed)


async def test_a_question_that_was_the_result_for_one_client_is_so_for_all(tmp_path: Path) -> None:
    store = MemoryStore()
    async with served(tmp_path, store, list(ASKING)) as client:
        task = (await client.call("reviewer", query="paint"))["taskId"]
        completed = await client.until(task)
    async with served(tmp_path, store, [], has_forms=True) as client:
        again = await client.get(task)
    assert completed["status"] == "completed"
    assert common(again) == common(completed)


async def test_a_failed_task_stays_failed_when_its_job_could_be_resumed_again(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    task = await begun(tmp_path, store, FakeSkills(gate=anyio.Event()))
    async with served(
        tmp_path, store, [], toml='[experts."other"]\ninstruction = "W."\n'
    ) as client:
        failed = await client.get(task)
    async with served(tmp_path, store, [done("after all")]) as client:
        again = await client.get(task)
        resumed = await client.call("reviewer", job_id=task)
        completed = await client.until(resumed["taskId"])
        last = await client.get(task)
    assert failed["status"] == "failed"
    assert common(again) == common(last) == common(failed)
    assert resumed["taskId"] != task
    assert completed["result"]["structuredContent"]["text"] == "after all"


async def test_no_id_is_used_for_two_tasks(tmp_path: Path) -> None:
    store = MemoryStore()
    async with served(tmp_path, store, list(CLEANING), toml=MODERN) as client:
        first = (await client.call("reviewer", query="clean"))["taskId"]
        asked = await client.until(first)
        second = (await client.call("reviewer", query="yes", job_id=first))["taskId"]
        cleaned = await client.until(second)
    async with served(tmp_path, store, [done("more")], toml=MODERN) as client:
        third = (await client.call("reviewer", query="more", job_id=first))["taskId"]
        more = await client.until(third)
        before = [await client.get(first), await client.get(second)]
    assert len({first, second, third}) == 3
    assert [common(each) for each in before] == [common(asked), common(cleaned)]
    assert cleaned["result"]["structuredContent"]["text"] == "cleaned"
    assert more["result"]["structuredContent"]["text"] == "more"


@pytest.mark.parametrize("suffix", ["", ".0", ".0~1"])
async def test_ids_of_earlier_versions_are_known(tmp_path: Path, suffix: str) -> None:
    store = MemoryStore()
    model = FakeModel({"reviewer": [done("then")]})
    async with engine_on(tmp_path, model, store=store) as engine:
        job = await engine.start(JobRequest(expert_key="reviewer", query="look"))
        await job.wait()
    async with served(tmp_path, store, []) as client:
        completed = await client.get(f"{job.job_id}{suffix}")
    assert completed["status"] == "completed"
    assert completed["result"]["structuredContent"]["text"] == "then"
