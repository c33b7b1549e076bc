"""Users of one HTTP server are told of edits all alike, and of jobs each of their own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.shared.subscriptions import ResourcesListChanged, ResourceUpdated, ToolsListChanged

from tests.server.auth.serving import TOML, Place, by_tokens, serving
from tests.server.harness import Mode
from tests.server.telling import Told, follow

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

JOBS = "perstack://jobs"
POET = '\n[experts."poet"]\ninstruction = "Rhyme."\n'


@dataclass(frozen=True)
class Listener:
    """A user's client, and what it was told."""

    client: Client
    told: Told


@asynccontextmanager
async def listening(
    place: Place, name: str, mode: Mode, *, is_sse: bool = False
) -> AsyncGenerator[Listener]:
    """A client that follows the jobs of its user."""
    told = Told()
    async with (
        place.client(name, mode, is_sse=is_sse, told=told) as client,
        anyio.create_task_group() as tasks,
    ):
        await follow(client, mode, told, tasks, [JOBS])
        yield Listener(client, told)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("is_sse", [False, True], ids=["http", "sse"])
async def test_a_user_is_told_of_their_own_jobs_and_of_every_edit(
    tmp_path: Path, mode: Mode, is_sse: bool
) -> None:
    async with (
        serving(tmp_path, by_tokens(tmp_path)) as place,
        listening(place, "alice", mode, is_sse=is_sse) as alice,
        listening(place, "bob", mode, is_sse=is_sse) as bob,
    ):
        result = await alice.client.call_tool("reader", {"query": "a book"})
        await alice.told.until(ResourceUpdated(JOBS), ResourcesListChanged())
        (tmp_path / "perstack.toml").write_text(TOML + POET, encoding="utf-8")
        await alice.told.until(ToolsListChanged())
        await bob.told.until(ToolsListChanged())
        found = await bob.client.list_tools(cache_mode="refresh")
    assert not result.is_error
    assert bob.told.events[0] == ToolsListChanged()  # and not the list of resources, by a job
    assert ResourceUpdated(JOBS) not in bob.told.events
    assert "poet" in {tool.name for tool in found.tools}


async def test_who_may_not_see_jobs_is_not_told_of_them(tmp_path: Path, mode: Mode) -> None:
    async with (
        serving(tmp_path, by_tokens(tmp_path)) as place,
        listening(place, "carol", mode) as carol,
    ):
        await carol.client.call_tool("writer", {"query": "a line"})
        (tmp_path / "perstack.toml").write_text(TOML + POET, encoding="utf-8")
        await carol.told.until(ToolsListChanged())
    assert carol.told.events[0] == ToolsListChanged()
    assert ResourceUpdated(JOBS) not in carol.told.events
