"""An edit of the definition file reaches clients of every transport and era within two seconds."""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp_types import CallToolResult, ServerNotification, ToolListChangedNotification

from tests.server.harness import Mode, texts
from tests.server.transports.serving import (
    TOML,
    TRANSPORTS,
    Transport,
    command,
    http_server,
    prepare,
)

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

IN_TIME_SECONDS = 2.0
MODES: tuple[Mode, ...] = ("auto", "legacy")
POET = '\n[experts."poet"]\ninstruction = "Rhyme."\n'


@dataclass
class Listener:
    """A client that is told when the tools change."""

    name: str
    told: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)
    client: Client | None = None

    async def note(self, message: object) -> None:
        if isinstance(message, ServerNotification) and isinstance(
            message, ToolListChangedNotification
        ):
            self.told.set()

    async def listen(self, client: Client, is_open: anyio.Event) -> None:
        async with client.listen(tools_list_changed=True) as stream:
            is_open.set()
            async for _ in stream:
                self.told.set()
        self.ended.set()

    async def sees(self, tool: str) -> bool:
        """Whether the tool is there for the client."""
        assert self.client is not None
        listed = await self.client.list_tools(cache_mode="refresh")
        return tool in {each.name for each in listed.tools}

    async def hears(self, tool: str) -> str:
        """What the tool answers."""
        assert self.client is not None
        result = await self.client.call_tool(tool, {"query": "the sea"})
        assert isinstance(result, CallToolResult)
        return texts(result)[0]


@asynccontextmanager
async def listening(
    transport: Transport, mode: Mode, folder: Path, origin: str
) -> AsyncGenerator[Listener]:
    """One more client of the server of a folder."""
    listener = Listener(f"{transport} {mode}")
    client: Client
    if transport == "stdio":
        program, *options = command(folder)
        parameters = StdioServerParameters(command=program, args=options, env=dict(os.environ))
        client = Client(stdio_client(parameters), mode=mode, message_handler=listener.note)
    elif transport == "sse":
        client = Client(sse_client(f"{origin}/sse"), mode=mode, message_handler=listener.note)
    else:
        client = Client(f"{origin}/mcp", mode=mode, message_handler=listener.note)
    async with client, anyio.create_task_group() as tasks:
        listener.client = client
        if mode == "auto":
            is_open = anyio.Event()
            tasks.start_soon(listener.listen, client, is_open)
            await is_open.wait()
        yield listener
        tasks.cancel_scope.cancel()


async def test_an_edit_reaches_every_client_in_time(tmp_path: Path) -> None:
    prepare(tmp_path)
    with (tmp_path / "script.toml").open("a", encoding="utf-8") as script:
        script.write('[[experts.poet]]\ntext = "Roses by {{query}}."\n')
    async with AsyncExitStack() as stack:
        server = stack.enter_context(http_server(tmp_path))
        listeners = [
            await stack.enter_async_context(listening(transport, mode, tmp_path, server.origin))
            for transport in TRANSPORTS
            for mode in MODES
        ]
        early = [each.name for each in listeners if await each.sees("poet")]
        edited = tmp_path / "perstack.toml.new"
        edited.write_text(TOML + POET, encoding="utf-8")
        edited.replace(tmp_path / "perstack.toml")
        with anyio.move_on_after(IN_TIME_SECONDS):
            for listener in listeners:
                await listener.told.wait()
        in_time = [each.name for each in listeners if each.told.is_set()]
        seeing = [each.name for each in listeners if await each.sees("poet")]
        poems = {await each.hears("poet") for each in (listeners[0], listeners[-1])}
    assert early == []
    assert in_time == [each.name for each in listeners]
    assert seeing == in_time
    assert all("Roses by the sea" in poem for poem in poems)


async def test_who_listens_is_told_that_the_server_ends(tmp_path: Path) -> None:
    prepare(tmp_path)
    with http_server(tmp_path) as server:
        async with listening("http", "auto", tmp_path, server.origin) as listener:
            code = await anyio.to_thread.run_sync(server.end)
            with anyio.move_on_after(5):
                await listener.ended.wait()
    assert code == 0
    assert listener.ended.is_set()
