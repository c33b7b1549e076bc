"""One engine for each principal: opened when it is wanted, closed when it is not used."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import pytest

from perstack.definition.loader import LoadedDefinitions
from perstack.definition.model import Definitions
from perstack.engine import Engine
from perstack.errors import ConfigError, PerstackError
from perstack.server.activity import ServerActivity
from perstack.server.caller import Caller
from perstack.server.services import TenantServices
from perstack.server.tenants.engine import TenantEngineFactory
from perstack.server.tenants.folders import TenantSettings
from perstack.server.tenants.registry import TenantRegistry
from tests.fakes import ManualClock

pytestmark = pytest.mark.anyio

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")
FIRST = LoadedDefinitions(Path("perstack.toml"), Definitions(), (), "first")
SECOND = LoadedDefinitions(Path("perstack.toml"), Definitions(), (), "second")


async def pass_seconds(clock: ManualClock, seconds: float) -> None:
    clock.advance(seconds)
    await anyio.wait_all_tasks_blocked()


@dataclass(eq=False)
class FakeEngine:
    """An engine that does nothing."""

    principal: str
    loaded: LoadedDefinitions
    opened_in: str
    live_job_ids: tuple[str, ...] = ()
    refuses: LoadedDefinitions | None = None

    async def warm_up(self) -> None:
        return

    async def reload_definitions(self, loaded: LoadedDefinitions) -> None:
        if loaded is self.refuses:
            raise ConfigError("no key for that.")
        self.loaded = loaded


def as_services(engine: Engine) -> TenantServices:
    return cast("TenantServices", engine)


@dataclass
class FakeEngineFactory(TenantEngineFactory):
    """Opens them; `open` has those that are, `log` what happened."""

    open: dict[str, FakeEngine] = field(default_factory=dict[str, FakeEngine])
    log: list[str] = field(default_factory=list[str])
    broken: dict[str, Exception] = field(default_factory=dict[str, Exception])
    loaded: LoadedDefinitions = FIRST
    abandoned: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.create_services = as_services

    def prepare(self) -> None:
        if "everyone" in self.broken:
            raise self.broken["everyone"]

    async def tenants_with_orphans(self) -> tuple[str, ...]:
        return self.abandoned

    async def recover(self, engine: Engine) -> None:
        return

    @asynccontextmanager
    async def open_engine(self, principal: str) -> AsyncGenerator[Engine]:
        if principal in self.broken:
            raise self.broken[principal]
        engine = FakeEngine(principal, self.loaded, REQUEST.get())
        self.log.append(f"open {principal}")
        self.open[principal] = engine
        try:
            yield cast("Engine", engine)
        finally:
            await anyio.lowlevel.checkpoint()
            del self.open[principal]
            self.log.append(f"close {principal}")


@dataclass
class Place:
    """A reception and its surroundings."""

    tenants: TenantRegistry
    engines: FakeEngineFactory
    clock: ManualClock

    async def services_for(self, principal: str) -> TenantServices:
        with anyio.fail_after(30):
            return await self.tenants.services_for(Caller(principal=principal))


@asynccontextmanager
async def place(users: TenantSettings | None) -> AsyncGenerator[Place]:
    engines, clock = FakeEngineFactory(), ManualClock(is_automatic=False)
    reception = TenantRegistry(engines, users, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reception.run, ServerActivity())
        yield Place(reception, engines, clock)
        await reception.close(5)
        assert engines.open == {}


USERS = TenantSettings(idle_seconds=600, max_open=3)


async def test_each_principal_has_an_engine_of_their_own_and_keeps_it() -> None:
    async with place(USERS) as here:
        offices = [await here.services_for(name) for name in ("a", "b", "a", "b")]
    assert offices[0] is offices[2]
    assert offices[1] is offices[3]
    assert offices[0] is not offices[1]
    assert here.engines.log[:2] == ["open a", "open b"]


async def test_without_users_everyone_has_the_same() -> None:
    async with place(None) as here:
        assert await here.services_for("a") is await here.services_for("b")
    assert here.engines.log == ["open local", "close local"]


async def test_callers_who_come_at_once_open_one_engine() -> None:
    async with place(USERS) as here, anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(here.services_for, "a")
    assert here.engines.log == ["open a", "close a"]


async def test_an_engine_carries_nothing_of_the_request_that_wanted_it() -> None:
    async with place(USERS) as here:
        REQUEST.set("alice's")
        await here.services_for("a")
        assert here.engines.open["a"].opened_in == "none"


async def test_an_engine_that_is_not_used_is_closed_and_opened_again() -> None:
    async with place(USERS) as here:
        first = await here.services_for("a")
        await pass_seconds(here.clock, 599)
        assert "a" in here.engines.open
        await pass_seconds(here.clock, 200)
        assert "a" not in here.engines.open
        assert await here.services_for("a") is not first


async def test_an_engine_that_drives_a_job_or_answers_a_request_stays_open() -> None:
    async with place(USERS) as here:
        await here.services_for("working")
        await here.services_for("asked")
        here.engines.open["working"].live_job_ids = ("job",)
        with here.tenants.lease("asked"):
            for _ in range(10):
                await pass_seconds(here.clock, 600)
            assert set(here.engines.open) == {"working", "asked"}
        await pass_seconds(here.clock, 599)
        assert "asked" in here.engines.open
        await pass_seconds(here.clock, 200)
        assert set(here.engines.open) == {"working"}


async def test_a_principal_too_many_takes_the_place_of_the_one_that_was_idle_longest() -> None:
    async with place(USERS) as here:
        for name in ("a", "b", "c", "a"):
            await here.services_for(name)
            await pass_seconds(here.clock, 1)
        await here.services_for("d")
        await anyio.wait_all_tasks_blocked()
        assert set(here.engines.open) == {"a", "c", "d"}


async def test_a_principal_too_many_is_told_so_when_all_are_busy() -> None:
    async with place(USERS) as here:
        for name in ("a", "b", "c"):
            await here.services_for(name)
            here.engines.open[name].live_job_ids = ("job",)
        with pytest.raises(PerstackError, match="as many users as it can"):
            await here.services_for("d")
        here.engines.open["b"].live_job_ids = ()
        await here.services_for("d")


@pytest.mark.parametrize("error", [ConfigError("no such folder."), RuntimeError("a bug")])
async def test_an_engine_that_cannot_be_opened_concerns_its_principal_only(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with place(USERS) as here:
        here.engines.broken["a"] = error
        for _ in range(2):
            with pytest.raises(PerstackError, match=r"no such folder|Internal error: RuntimeError"):
                await here.services_for("a")
        await here.services_for("b")
        del here.engines.broken["a"]
        await here.services_for("a")
    assert str(error) in caplog.text


async def test_the_log_says_once_why_an_engine_cannot_be_opened(
    caplog: pytest.LogCaptureFixture,
) -> None:
    said: list[int] = []
    async with place(None) as here:
        for reason in ("disk full", "disk full", "no such folder", "disk full"):
            here.engines.broken["local"] = ConfigError(reason)
            with pytest.raises(PerstackError, match=reason):
                await here.services_for("a")
            said.append(len(caplog.records))
    assert said == [1, 1, 2, 3]


async def test_what_was_edited_reaches_every_engine() -> None:
    async with place(USERS) as here:
        await here.services_for("a")
        await here.services_for("b")
        here.engines.open["b"].refuses = SECOND
        await here.tenants.reload_definitions(SECOND)
        await here.services_for("c")
        loaded = {name: engine.loaded.digest for name, engine in here.engines.open.items()}
    assert loaded == {"a": "second", "b": "first", "c": "second"}
    assert here.tenants.definitions() is SECOND.definitions


async def test_an_edit_that_the_only_engine_cannot_use_changes_nothing() -> None:
    async with place(None) as here:
        await here.services_for("a")
        here.engines.open["local"].refuses = SECOND
        with pytest.raises(ConfigError):
            await here.tenants.reload_definitions(SECOND)
        assert here.engines.loaded is FIRST


async def test_it_says_ahead_whether_users_can_be_served() -> None:
    async with place(USERS) as here:
        assert not here.tenants.is_open
        await here.tenants.open()
        assert here.tenants.is_open
        assert here.engines.log == []
    async with place(USERS) as here:
        here.engines.broken["everyone"] = ConfigError("the folder cannot be made.")
        await here.tenants.open()
        assert here.tenants.ready.is_set()
        assert not here.tenants.is_open


async def test_users_whose_jobs_were_left_behind_have_engines_before_they_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with place(TenantSettings(max_open=4)) as here:
        here.engines.abandoned = ("a", "b", "c")
        await here.tenants.open()
        await anyio.wait_all_tasks_blocked()
        assert set(here.engines.open) == {"a", "b"}
    assert "3 users have jobs that were left behind; those of 2 go on now" in caplog.text


async def test_a_closed_reception_serves_nobody() -> None:
    async with place(USERS) as here:
        await here.services_for("a")
        await here.tenants.close(5)
        for name in ("a", "b"):
            with pytest.raises(PerstackError, match="shutting down"):
                await here.services_for(name)
