"""Clients are told of what changes, in both eras."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.shared.subscriptions import (
    ServerEvent,
    ToolsListChanged,
    event_from_wire,
)
from mcp_types import ServerNotification

from perstack.server.app import build_server
from perstack.server.changes import Changes
from perstack.server.face import Face
from perstack.server.live import LiveDefinitions, Pace
from perstack.server.office import EngineOffice
from tests.fakes import FakeModel
from tests.server.stage import TOML, Mode, OneOffice, engine_on

pytestmark = pytest.mark.anyio

HASTE = Pace(look_seconds=0.01, settle_seconds=0.005)


class Told:
    """What a client was told of."""

    def __init__(self) -> None:
        self.events: list[ServerEvent] = []
        self._heard = anyio.Event()

    async def note(self, message: object) -> None:
        if isinstance(message, ServerNotification):
            params = message.model_dump(by_alias=True).get("params")
            event = event_from_wire(message.method, params)
            if event is not None:
                self.add(event)

    def add(self, event: ServerEvent) -> None:
        self.events.append(event)
        self._heard.set()

    async def until(self, *events: ServerEvent) -> None:
        with anyio.fail_after(5):
            while not set(events) <= set(self.events):
                self._heard = anyio.Event()
                await self._heard.wait()


@asynccontextmanager
async def live_stage(
    folder: Path, mode: Mode, *resources: str, model: FakeModel | None = None
) -> AsyncGenerator[tuple[Client, Told]]:
    """A client that is told of changes of a server whose definition file is watched."""
    told = Told()
    changes = Changes(interval=0.02)
    async with (
        engine_on(folder, model or FakeModel({})) as engine,
        anyio.create_task_group() as tasks,
    ):
        live = LiveDefinitions(engine.loaded, pace=HASTE)
        engine.observe(lambda job_id, news: changes.job_changed("local", job_id, news))
        office = EngineOffice(engine)
        server = build_server(
            Face(definitions=live.definitions, offices=OneOffice(office), changes=changes)
        )
        tasks.start_soon(live.watch, engine.adopt, changes.definitions_changed)
        async with (
            Client(server, mode=mode, message_handler=told.note) as client,
            anyio.create_task_group() as listening,
        ):
            await follow(client, mode, told, listening, resources)
            yield client, told
            listening.cancel_scope.cancel()
        tasks.cancel_scope.cancel()


async def follow(
    client: Client,
    mode: Mode,
    told: Told,
    listening: anyio.abc.TaskGroup,
    resources: tuple[str, ...],
) -> None:
    """Have the client told of all lists and of `resources`, as its era has it."""
    if mode == "legacy":
        for uri in resources:
            await client.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated] - of its era
        return
    is_open = anyio.Event()

    async def listen() -> None:
        async with client.listen(
            tools_list_changed=True,
            prompts_list_changed=True,
            resources_list_changed=True,
            resource_subscriptions=resources,
        ) as stream:
            is_open.set()
            async for event in stream:
                told.add(event)

    listening.start_soon(listen)
    await is_open.wait()


async def names(client: Client) -> list[str]:
    """The tools that the client sees."""
    listed = await client.list_tools(cache_mode="refresh")
    return [tool.name for tool in listed.tools]


async def test_an_edit_reaches_a_connected_client(tmp_path: Path, mode: Mode) -> None:
    async with live_stage(tmp_path, mode) as (client, told):
        assert "poet" not in await names(client)
        (tmp_path / "perstack.toml").write_text(
            TOML + '\n[experts."poet"]\ninstruction = "Rhyme."\n', encoding="utf-8"
        )
        await told.until(ToolsListChanged())
        assert "poet" in await names(client)
