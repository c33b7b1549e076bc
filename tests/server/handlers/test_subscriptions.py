"""Clients are told of what changes, in both eras."""

import itertools
import json
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp_types import (
    EmptyResult,
    TextResourceContents,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)

from perstack.engine import Engine
from perstack.runtime.start_plan import JobRequest
from perstack.server.app import build_server
from perstack.server.caller import Caller
from perstack.server.context import ServerContext
from perstack.server.handlers.subscriptions import MAX_STREAMS
from perstack.server.notifications.definitions_watcher import DefinitionsWatcher, WatchIntervals
from perstack.server.notifications.hub import MAX_URIS, NotificationHub, Subscriber
from perstack.server.services import TenantServices
from perstack.store.memory import MemoryStore
from tests.engines import TOML, engine_on
from tests.fakes import FakeModel, done
from tests.server.harness import Mode, NoLeases
from tests.server.telling import Told, follow, follow_all

pytestmark = pytest.mark.anyio

HASTE = WatchIntervals(poll_seconds=0.01, settle_seconds=0.005)
POET = '\n[experts."poet"]\ninstruction = "Rhyme."\n'
DEFINITIONS = ResourceUpdated("perstack://definitions")


@dataclass
class FailableServices(NoLeases):
    """The same office for everyone, until something goes wrong."""

    services: TenantServices
    failure: Exception | None = None

    async def services_for(self, caller: Caller) -> TenantServices:
        if self.failure is not None:
            raise self.failure
        return self.services


@dataclass(frozen=True)
class LiveStage:
    """A client that is told of changes of a server whose definition file is watched."""

    engine: Engine
    tenants: FailableServices
    notifications: NotificationHub
    client: Client
    told: Told
    config: Path

    def edit(self, text: str) -> None:
        """Save another content of the definition file."""
        self.config.write_text(text, encoding="utf-8")

    async def tools(self) -> list[str]:
        """The tools that the client sees."""
        listed = await self.client.list_tools(cache_mode="refresh")
        return [tool.name for tool in listed.tools]

    async def shown(self) -> dict[str, Any]:
        """What the client reads of the definitions."""
        found = await self.client.read_resource(DEFINITIONS.uri, cache_mode="refresh")
        (content,) = found.contents
        assert isinstance(content, TextResourceContents)
        return json.loads(content.text)


async def run(engine: Engine, job_id: str) -> None:
    """Have a job done."""
    job = await engine.start(JobRequest(expert_key="writer", query="q", new_job_id=job_id))
    await job.wait()


@asynccontextmanager
async def live_stage(
    folder: Path,
    mode: Mode,
    *resources: str,
    model: FakeModel | None = None,
    store: MemoryStore | None = None,
) -> AsyncGenerator[LiveStage]:
    """A client that wants to be told of all lists, and of `resources`."""
    told = Told()
    changes = NotificationHub(interval=0.02, poll_seconds=0.01)
    async with (
        engine_on(folder, model or FakeModel({}), store=store) as engine,
        anyio.create_task_group() as tasks,
    ):
        live = DefinitionsWatcher(
            engine.loaded,
            engine.settings,
            engine.reload_definitions,
            changes.definitions_changed,
            intervals=HASTE,
        )
        engine.subscribe(lambda job_id, news: changes.job_changed("local", job_id, news))
        offices = FailableServices(TenantServices(engine))
        server = build_server(
            ServerContext(
                definitions=lambda: live.loaded.definitions,
                problems=lambda: live.problems,
                tenants=offices,
                notifications=changes,
            )
        )
        tasks.start_soon(live.watch)
        async with (
            Client(server, mode=mode, message_handler=told.note) as client,
            anyio.create_task_group() as listening,
        ):
            await follow(client, mode, told, listening, resources)
            yield LiveStage(engine, offices, changes, client, told, folder / "perstack.toml")
            listening.cancel_scope.cancel()
        tasks.cancel_scope.cancel()


async def test_an_edit_reaches_a_connected_client(tmp_path: Path, mode: Mode) -> None:
    async with live_stage(tmp_path, mode) as stage:
        before = await stage.tools()
        stage.edit(TOML + POET)
        await stage.told.until(ToolsListChanged())
        assert set(await stage.tools()) == {*before, "poet"}


async def test_every_client_is_promised_to_be_told(tmp_path: Path, mode: Mode) -> None:
    async with live_stage(tmp_path, mode) as stage:
        can = stage.client.server_capabilities
        assert can.tools is not None
        assert can.prompts is not None
        assert can.resources is not None
        promised = (can.tools, can.prompts, can.resources)
        assert all(each.list_changed for each in promised)
        assert can.resources.subscribe


async def test_an_edit_that_no_list_shows_is_told_of_the_definitions_alone(
    tmp_path: Path, mode: Mode
) -> None:
    async with live_stage(tmp_path, mode, DEFINITIONS.uri) as stage:
        stage.edit(TOML.replace('instruction = "Write."', 'instruction = "Write well."'))
        await stage.told.until(DEFINITIONS)
        assert set(stage.told.events) == {DEFINITIONS}


async def test_a_broken_edit_leaves_the_tools_as_they_were_and_shows_what_is_wrong(
    tmp_path: Path, mode: Mode
) -> None:
    async with live_stage(tmp_path, mode, DEFINITIONS.uri) as stage:
        before, used = await stage.tools(), stage.engine.loaded
        assert "problems" not in await stage.shown()
        stage.edit(TOML + POET + "[[")
        await stage.told.until(DEFINITIONS)
        assert await stage.tools() == before
        assert stage.engine.loaded is used
        assert set(stage.told.events) == {DEFINITIONS}
        (problem,) = (await stage.shown())["problems"]
        assert problem.startswith("perstack.toml:")
        stage.told.events.clear()
        stage.edit(TOML)
        await stage.told.until(DEFINITIONS)
        assert "problems" not in await stage.shown()


async def test_prompts_and_resources_of_experts_change_with_the_tools(
    tmp_path: Path, mode: Mode
) -> None:
    async with live_stage(tmp_path, mode) as stage:
        stage.edit(TOML + POET)
        await stage.told.until(ToolsListChanged(), PromptsListChanged(), ResourcesListChanged())
        assert "poet" in await stage.tools()
        prompts = await stage.client.list_prompts(cache_mode="refresh")
        resources = await stage.client.list_resources(cache_mode="refresh")
    assert "poet" in {prompt.name for prompt in prompts.prompts}
    assert "perstack://experts/poet" in {resource.uri for resource in resources.resources}


async def test_a_client_follows_a_job(tmp_path: Path, mode: Mode) -> None:
    job, other = "perstack://jobs/job1", "perstack://jobs/job2"
    followed = (job, f"{job}/events?after=0", f"{job}/result", "perstack://jobs")
    model = FakeModel({"writer": [done("1")]})
    async with live_stage(tmp_path, mode, *followed, other, model=model) as stage:
        await run(stage.engine, "job1")
        await stage.told.until(*map(ResourceUpdated, followed), ResourcesListChanged())
        assert ResourceUpdated(other) not in stage.told.events


async def test_a_client_follows_a_job_that_another_process_drives(
    tmp_path: Path, mode: Mode
) -> None:
    job, store = "perstack://jobs/job", MemoryStore()
    model = FakeModel(lambda _request: done("1"))
    async with (
        engine_on(tmp_path, model, store=store) as elsewhere,
        live_stage(tmp_path, mode, job, store=store) as stage,
    ):
        with anyio.fail_after(30):
            for number in itertools.count():
                await run(elsewhere, f"other{number}")
                if stage.told.events:
                    break
        assert set(stage.told.events) == {ResourcesListChanged()}
        await run(elsewhere, "job")
        await stage.told.until(ResourceUpdated(job))


async def test_a_resource_can_be_followed_no_longer(tmp_path: Path) -> None:
    job, other = "perstack://jobs/job1", "perstack://jobs/job2"
    model = FakeModel({"writer": [done("1"), done("2")]})
    async with live_stage(tmp_path, "legacy", job, other, model=model) as stage:
        asked = UnsubscribeRequest(params=UnsubscribeRequestParams(uri=job))
        await stage.client.session.send_request(asked, EmptyResult)
        await run(stage.engine, "job1")
        await run(stage.engine, "job2")
        await stage.told.until(ResourceUpdated(other))
        assert ResourceUpdated(job) not in stage.told.events


async def test_no_more_resources_are_followed_than_can_be_told_of(
    tmp_path: Path, mode: Mode
) -> None:
    uris = [f"perstack://jobs/j{number}" for number in range(MAX_URIS + 1)]
    async with live_stage(tmp_path, mode) as stage:
        with pytest.raises(MCPError, match=f"At most {MAX_URIS} resources"):
            await follow_all(stage.client, mode, uris)
        assert await stage.tools()


async def test_no_more_clients_listen_than_can_be_told(tmp_path: Path) -> None:
    async with live_stage(tmp_path, "auto") as stage:
        with ExitStack() as others:
            for _ in range(MAX_STREAMS - 1):
                one = Subscriber(lambda _event: False)
                others.enter_context(stage.notifications.subscription("local", one))
            with pytest.raises(MCPError, match="streams are open already"):
                await stage.client.listen(tools_list_changed=True).__aenter__()
        async with stage.client.listen(tools_list_changed=True):
            pass


async def test_an_address_that_leads_nowhere_is_followed_unless_it_is_far_too_long(
    tmp_path: Path, mode: Mode
) -> None:
    async with live_stage(tmp_path, mode, "test://nowhere") as stage:
        assert await stage.tools()
        with pytest.raises(MCPError, match="No address has more"):
            await follow_all(stage.client, mode, ["perstack://jobs/" + "x" * 5000])


async def test_who_listens_is_told_when_the_server_ends(tmp_path: Path) -> None:
    async with live_stage(tmp_path, "auto") as stage:
        await stage.notifications.close()
        with anyio.fail_after(30):
            await stage.told.ended.wait()
        assert stage.notifications.count_subscribers("local") == 0


async def test_who_has_left_is_not_told_any_more(tmp_path: Path, mode: Mode) -> None:
    async with live_stage(tmp_path, mode) as stage:
        changes = stage.notifications
        await stage.tools()
        assert changes.count_subscribers("local") == 1
    assert changes.count_subscribers("local") == 0


async def test_trouble_with_one_client_does_not_end_the_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with live_stage(tmp_path, "legacy", model=FakeModel({"writer": [done("1")]})) as stage:
        await stage.tools()
        stage.tenants.failure = RuntimeError("a bug")
        await follow_all(stage.client, "legacy", ["perstack://jobs"])
        with anyio.fail_after(30):
            while not caplog.records:
                await anyio.lowlevel.checkpoint()
        assert "told of changes no longer" in caplog.text
        assert await stage.tools()
        assert stage.notifications.count_subscribers("local") == 0
