"""Should a way in ever be left open, it leads nowhere; and whoever is in keeps to the limits."""

from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from perstack.server.bootstrap import ServerOptions, create_runtime
from perstack.server.tenants.folders import TenantSettings
from perstack.server.tenants.limits import JobLimits
from perstack.settings import Settings
from tests.server.auth.serving import TOML, by_tokens, serving
from tests.server.harness import Mode, facts, texts
from tests.server.telling import Told, follow

pytestmark = pytest.mark.anyio

EXCUSE = "which is as many as you may have at once"


async def test_without_a_token_there_is_nothing_behind_the_gate_either(
    tmp_path: Path, mode: Mode
) -> None:
    config = tmp_path / "perstack.toml"
    config.write_text(TOML, encoding="utf-8")
    served = create_runtime(
        Settings(config=config, environment={}), ServerOptions(tenant_settings=TenantSettings())
    )
    with pytest.raises(BaseExceptionGroup) as refused:  # noqa: PT012 - where it is refused depends
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(served.tenants.run, served.activity)
            async with Client(served.server, mode=mode) as client:
                await client.list_tools()
    assert refused.group_contains(MCPError, match="Authentication required")
    assert not (tmp_path / "perstack").exists()


async def test_a_user_with_too_many_jobs_is_told_which_and_nobody_else_is_held_up(
    tmp_path: Path, mode: Mode
) -> None:
    offer = ServerOptions(tenant_settings=TenantSettings(), limits=JobLimits(max_jobs=1))
    async with (
        serving(tmp_path, by_tokens(tmp_path), offer) as place,
        place.client("alice", mode) as alice,
        place.client("bob", mode) as bob,
    ):
        arguments = {"query": "q", "wait_seconds": 0}
        first = await alice.call_tool("waiter", arguments)
        second = await alice.call_tool("waiter", arguments)
        other = await bob.call_tool("waiter", arguments)
    assert isinstance(first, CallToolResult)
    assert isinstance(second, CallToolResult)
    assert isinstance(other, CallToolResult)
    job_id = facts(first)["job_id"]
    assert second.is_error
    assert f"1 job is running already, {EXCUSE}: {job_id}" in texts(second)[0]
    assert facts(other)["status"] == "running"


async def test_a_user_who_only_listens_takes_nobody_elses_place(tmp_path: Path, mode: Mode) -> None:
    told = Told()
    async with (
        serving(
            tmp_path, by_tokens(tmp_path), ServerOptions(tenant_settings=TenantSettings(max_open=1))
        ) as place,
        place.client("alice", mode, told=told) as alice,
        place.client("bob", mode) as bob,
        anyio.create_task_group() as tasks,
    ):
        await alice.call_tool("reader", {"query": "q"})
        await follow(alice, mode, told, tasks, [])
        result = await bob.call_tool("reader", {"query": "q"})
        assert isinstance(result, CallToolResult)
        assert texts(result)[0] == "Read: q"
        tasks.cancel_scope.cancel()
