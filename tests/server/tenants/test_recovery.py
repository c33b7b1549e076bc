"""Jobs that were left in the middle of their work go on with the next server."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import pytest

from perstack.core.checkpoint import Job
from perstack.definition.loader import load_definitions
from perstack.engine import Engine
from perstack.errors import JobStateError, StoreError
from perstack.jobs import JobHandle
from perstack.runtime.ports import Orphan, SystemClock
from perstack.server.activity import ServerActivity
from perstack.server.services import TenantServices
from perstack.server.tenants.engine import TenantEngineFactory, TenantPolicy
from perstack.server.tenants.folders import TenantSettings
from perstack.server.tenants.recovery import RecoveryPolicy, recover_orphans
from perstack.server.tenants.registry import TenantRegistry
from perstack.settings import Settings
from perstack.store.leases import current_owner
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.fakes import ManualClock
from tests.store.sample_job import RunStory, write

pytestmark = pytest.mark.anyio

TOML = """
model = "m"
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"
[experts."researcher"]
instruction = "Work."
"""
SCRIPT = """
[[experts.researcher]]
text = "found"
"""


@dataclass(eq=False)
class WaitingJob:
    """A job that works until it is told to stop."""

    stopped: anyio.Event = field(default_factory=anyio.Event)

    async def wait(self) -> None:
        await self.stopped.wait()


@dataclass
class FakeEngine:
    """Has orphans, and takes them up."""

    orphans_at: list[tuple[Orphan, ...]]
    refused: frozenset[str] = frozenset()
    taken: dict[str, WaitingJob] = field(default_factory=dict[str, WaitingJob])
    looked: list[int] = field(default_factory=list[int])

    async def orphans(self, since_ms: int) -> tuple[Orphan, ...]:
        self.looked.append(since_ms)
        if not self.orphans_at:
            raise StoreError("the disk is gone.")
        return self.orphans_at.pop(0)

    async def drive(self, job_id: str) -> JobHandle:
        if job_id in self.refused:
            raise JobStateError("its expert is gone.")
        job = self.taken[job_id] = WaitingJob()
        return cast("JobHandle", job)

    def stop(self) -> None:
        """All jobs that were taken up stop."""
        for job in self.taken.values():
            job.stopped.set()


def orphans(*names: str) -> tuple[Orphan, ...]:
    return tuple(Orphan(name, takeovers=0) for name in names)


async def recover(engine: FakeEngine, policy: RecoveryPolicy, clock: ManualClock) -> None:
    await recover_orphans(cast("Engine", engine), policy, clock)


async def test_so_many_jobs_are_taken_up_at_once_the_newest_first() -> None:
    engine = FakeEngine([orphans("e", "d", "c", "b", "a"), ()])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            recover_orphans, cast("Engine", engine), RecoveryPolicy(max_concurrent=2), ManualClock()
        )
        await anyio.wait_all_tasks_blocked()
        assert list(engine.taken) == ["e", "d"]
        engine.stop()
        await anyio.wait_all_tasks_blocked()
        assert list(engine.taken) == ["e", "d", "c", "b"]
        for _ in range(2):
            engine.stop()
            await anyio.wait_all_tasks_blocked()
    assert list(engine.taken) == ["e", "d", "c", "b", "a"]


async def test_it_looks_again_when_the_leases_of_before_have_run_out() -> None:
    engine, clock = FakeEngine([orphans("a"), orphans("b", "a")]), ManualClock()
    began = clock.now
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            recover_orphans, cast("Engine", engine), RecoveryPolicy(max_age_seconds=60), clock
        )
        await anyio.wait_all_tasks_blocked()
        engine.stop()
    assert list(engine.taken) == ["a", "b"]
    assert clock.slept == [0.0, 16.0]
    assert [began - 60_000 < moment < began - 40_000 for moment in engine.looked] == [True, True]


async def test_a_job_that_dies_with_its_process_again_and_again_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine = FakeEngine([(Orphan("poison", takeovers=3), Orphan("b", takeovers=2)), ()])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recover, engine, RecoveryPolicy(), ManualClock())
        await anyio.wait_all_tasks_blocked()
        engine.stop()
    assert list(engine.taken) == ["b"]
    assert "job poison is left as it is: it was taken up 3 times" in caplog.text


async def test_trouble_with_one_job_or_with_the_store_is_said_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    engine = FakeEngine([orphans("a", "b")], refused=frozenset({"a"}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recover, engine, RecoveryPolicy(), ManualClock())
        await anyio.wait_all_tasks_blocked()
        engine.stop()
    assert list(engine.taken) == ["b"]
    for said in ("job a, left behind, does not go on: its expert is gone", "the disk is gone"):
        assert said in caplog.text


async def left_in(workspace: Path) -> None:
    """A process died there when its job had just begun."""
    workspace.mkdir(parents=True, exist_ok=True)
    host, _, _ = current_owner().partition(":")
    now = SystemClock().now_ms()
    async with open_sqlite_store(store_path(workspace), owner=f"{host}:{os.getpid()}:1") as store:
        await write(store, RunStory(at=now).start())


async def jobs_in(workspace: Path) -> tuple[Job, ...]:
    async with open_sqlite_store(store_path(workspace)) as store:
        return await store.jobs()


@asynccontextmanager
async def served(folder: Path, terms: TenantPolicy) -> AsyncGenerator[TenantRegistry]:
    """The engines of a server that nobody calls."""
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
    config = folder / "perstack.toml"
    config.write_text(TOML, encoding="utf-8")
    settings = Settings(config=config, workspace=folder, environment={})
    engines = TenantEngineFactory(settings, load_definitions(config), TenantServices, policy=terms)
    reception = TenantRegistry(engines, terms.tenant_settings)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reception.run, ServerActivity())
        with anyio.fail_after(30):
            await reception.open()
            yield reception
        await reception.close(5)


async def until_completed(workspace: Path) -> None:
    with anyio.fail_after(30):
        while [job.status for job in await jobs_in(workspace)] != ["completed"]:
            await anyio.lowlevel.checkpoint()


async def test_a_job_goes_on_without_anybody_asking(tmp_path: Path) -> None:
    await left_in(tmp_path)
    assert [job.status for job in await jobs_in(tmp_path)] == ["interrupted"]
    async with served(tmp_path, TenantPolicy(recovery=RecoveryPolicy())):
        await until_completed(tmp_path)


async def test_a_job_waits_for_somebody_where_recovery_is_not_wanted(tmp_path: Path) -> None:
    await left_in(tmp_path)
    async with served(tmp_path, TenantPolicy()) as reception:
        assert reception.is_open
        await anyio.wait_all_tasks_blocked()
    assert [job.status for job in await jobs_in(tmp_path)] == ["interrupted"]


async def test_the_jobs_of_users_go_on_before_they_call(tmp_path: Path) -> None:
    folder = tmp_path / "perstack" / "principals"
    for name in ("alice", "bob"):
        await left_in(folder / name / "workspace")
    (folder / "carol" / "workspace").mkdir(parents=True)
    terms = TenantPolicy(tenant_settings=TenantSettings(), recovery=RecoveryPolicy())
    async with served(tmp_path, terms):
        for name in ("alice", "bob"):
            await until_completed(folder / name / "workspace")
    assert not (folder / "carol" / "workspace" / "perstack").exists()
