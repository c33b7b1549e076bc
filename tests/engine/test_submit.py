"""Requests that are accepted apart from being driven."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from perstack.definition.model import Definitions
from perstack.engine import open_engine
from perstack.errors import ConfigError, JobStateError, NotFoundError, UnknownExpertError
from perstack.runtime.start_plan import JobRequest
from perstack.settings import EngineLoad, Overrides, Settings
from perstack.store.memory import MemoryStore
from tests.engines import engine_on
from tests.fakes import FakeModel, FakeSkills, done

pytestmark = pytest.mark.anyio
TOML = """
[experts."a"]
instruction = "Work."
"""
engine_of = partial(engine_on, toml=TOML, is_attended=False)
REQUEST = JobRequest(expert_key="a", query="the answer?", files=("notes.txt",), max_steps=7)


@pytest.fixture(autouse=True)
def notes(tmp_path: Path) -> None:
    """The file that the request points to."""
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")


async def orphans_of(store: MemoryStore) -> list[str]:
    return [orphan.job_id for orphan in await store.orphans(0)]


async def test_an_accepted_request_is_driven_by_another_process(tmp_path: Path) -> None:
    store = MemoryStore()
    async with engine_of(tmp_path, FakeModel({}), store=store) as engine:
        job_id = await engine.submit(REQUEST)
        assert engine.live_job_ids == ()
        with pytest.raises(NotFoundError):
            await engine.job(job_id)
    async with engine_of(tmp_path, FakeModel({"a": [done("42")]}), store=store) as engine:
        assert [orphan.job_id for orphan in await engine.orphans(0)] == [job_id]
        view = await (await engine.drive(job_id)).wait()
        assert await engine.orphans(0) == ()
    assert (view.job.status, view.text, view.job.query) == ("completed", "42", "the answer?")
    assert view.checkpoint.step_limit == 7


async def test_a_request_that_does_not_fit_is_not_accepted(tmp_path: Path) -> None:
    store = MemoryStore()
    async with engine_of(tmp_path, FakeModel({}), store=store) as engine:
        with pytest.raises(ConfigError, match="query is empty"):
            await engine.submit(JobRequest(expert_key="a"))
        with pytest.raises(NotFoundError):
            await engine.submit(JobRequest(job_id="absent"))
        assert await orphans_of(store) == []
        job_id = await engine.submit(REQUEST)
        other = JobRequest(expert_key="a", query="other", new_job_id=job_id)
        with pytest.raises(JobStateError, match="waits to be driven"):
            await engine.submit(other)
        with pytest.raises(JobStateError, match="waits to be driven"):
            await engine.start(other)
    assert await orphans_of(store) == [job_id]


async def test_a_caller_that_only_waits_drives_the_accepted_request_of_its_expert(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    async with engine_of(tmp_path, FakeModel({}), store=store) as engine:
        job_id = await engine.submit(REQUEST)
    async with engine_of(tmp_path, FakeModel({"a": [done("42"), done("43")]}), store=store) as here:
        with pytest.raises(JobStateError, match="belongs to 'a', not to 'b'"):
            await here.start(JobRequest(expert_key="b", job_id=job_id))
        assert await orphans_of(store) == [job_id]
        view = await (await here.start(JobRequest(expert_key="a", job_id=job_id))).wait()
        assert (view.text, view.job.query) == ("42", "the answer?")
        await here.submit(JobRequest(job_id=job_id, query="and then?"))
        again = await (await here.start(JobRequest(expert_key="a", job_id=job_id))).wait()
    assert (again.text, again.job.query) == ("43", "and then?")


async def test_a_request_survives_a_shutdown_before_its_first_event(tmp_path: Path) -> None:
    store = MemoryStore()

    @asynccontextmanager
    async def open_no_skills(_definitions: Definitions) -> AsyncGenerator[FakeSkills]:
        await anyio.sleep_forever()
        yield FakeSkills()

    (tmp_path / "perstack.toml").write_text(TOML, encoding="utf-8")
    settings = Settings(config=tmp_path / "perstack.toml", workspace=tmp_path, environment={})
    overrides = Overrides(model=FakeModel({}), store=store, open_skills=open_no_skills)
    async with open_engine(settings, overrides) as engine:
        job = await engine.start(REQUEST)
    with pytest.raises(JobStateError, match="before it began"):
        job.view()
    assert await orphans_of(store) == [job.job_id]
    async with engine_of(tmp_path, FakeModel({"a": [done("42")]}), store=store) as engine:
        view = await (await engine.start(JobRequest(job_id=job.job_id))).wait()
    assert (view.text, view.job.query) == ("42", "the answer?")
    assert await orphans_of(store) == []


async def test_a_request_that_is_cancelled_before_its_first_event_is_not_driven_again(
    tmp_path: Path,
) -> None:
    store = MemoryStore()
    async with engine_of(tmp_path, FakeModel({}), store=store) as engine:
        job = await engine.start(REQUEST)
        job.cancel("changed my mind")
        await job.stopped.wait()
        assert await orphans_of(store) == []


async def test_an_accepted_request_that_is_cancelled_is_never_driven(tmp_path: Path) -> None:
    store = MemoryStore()
    async with engine_of(tmp_path, FakeModel({"a": [done("1")]}), store=store) as engine:
        job_id = (await (await engine.start(REQUEST)).wait()).job.id
        await engine.submit(JobRequest(job_id=job_id, query="more"))
        view = await engine.cancel(job_id, "changed my mind")
        assert (view.job.status, view.text) == ("completed", "1")
        assert await orphans_of(store) == []


async def test_a_refused_start_leaves_no_request_but_a_refused_drive_does(tmp_path: Path) -> None:
    async def refuse(_load: EngineLoad) -> None:
        raise JobStateError("no more jobs may run.")

    store = MemoryStore()
    async with engine_of(tmp_path, FakeModel({}), store=store, admit=refuse) as engine:
        with pytest.raises(JobStateError, match="no more jobs"):
            await engine.start(REQUEST)
        with pytest.raises(UnknownExpertError):
            await engine.start(JobRequest(expert_key="b", query="x"))
        assert await orphans_of(store) == []
        job_id = await engine.submit(REQUEST)
        with pytest.raises(JobStateError, match="no more jobs"):
            await engine.drive(job_id)
        assert await orphans_of(store) == [job_id]


async def test_a_secret_in_a_request_is_not_stored(tmp_path: Path) -> None:
    store = MemoryStore()
    environment = {"SERVICE_TOKEN": "tok-0123456789"}
    async with engine_of(tmp_path, FakeModel({}), store=store, environment=environment) as engine:
        job_id = await engine.submit(JobRequest(expert_key="a", query="use tok-0123456789"))
    assert "tok-0123456789" not in str(await store.request(job_id))
