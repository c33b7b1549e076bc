"""The engine behind the server: opened late, told who calls, and closed in time."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider

from perstack.definition.loader import load_definitions
from perstack.server.activity import ServerActivity
from perstack.server.app import build_server
from perstack.server.caller import Caller, RequestContext
from perstack.server.context import ServerContext
from perstack.server.services import TenantServices
from perstack.server.tenants.engine import TenantEngineFactory
from perstack.server.tenants.registry import TenantRegistry
from perstack.server.tools.call import MAX_CLIENT_ID, ToolCallHandler
from perstack.server.tools.request import ToolCallRequest
from perstack.server.tools.wait import WaitPolicy
from perstack.settings import Settings
from tests.engines import engine_on
from tests.fakes import FakeModel, done
from tests.server.harness import Mode, facts, texts

pytestmark = pytest.mark.anyio

TOML = """
model = "m"
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"
[experts."reviewer"]
instruction = "Work."
"""
SCRIPT = """
[[experts.reviewer]]
text = "played"
"""


@asynccontextmanager
async def received(
    folder: Path, mode: Mode, *, workspace: Path | None = None
) -> AsyncGenerator[tuple[Client, ServerActivity, TenantRegistry]]:
    """A client of a server whose engine is not open yet."""
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
    config = folder / "perstack.toml"
    config.write_text(TOML, encoding="utf-8")
    settings = Settings(
        config=config, workspace=workspace, home="config", environment={}, is_in_memory=True
    )
    reception = TenantRegistry(
        TenantEngineFactory(settings, load_definitions(config), TenantServices)
    )
    activity = ServerActivity()
    server = build_server(
        ServerContext(definitions=reception.definitions, tenants=reception, activity=activity)
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reception.run, activity)
        async with Client(server, mode=mode) as client:
            yield client, activity, reception
        await reception.close(5)
        tasks.cancel_scope.cancel()


async def test_a_call_opens_the_engine(tmp_path: Path, mode: Mode) -> None:
    async with received(tmp_path, mode) as (client, activity, _):
        assert len((await client.list_tools()).tools) == 4
        assert activity.tools_listed.is_set()
        result = await client.call_tool("reviewer", {"query": "q"})
    assert facts(result)["text"] == "played"


async def test_an_engine_that_cannot_be_opened_says_why_to_every_caller(
    tmp_path: Path, mode: Mode
) -> None:
    async with received(tmp_path, mode, workspace=tmp_path / "nowhere") as (client, _, _):
        assert len((await client.list_tools()).tools) == 4
        for tool, arguments in (("reviewer", {"query": "q"}), ("perstack_jobs", {})):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert "nowhere is not a folder" in texts(result)[0]


async def test_a_server_that_nobody_called_closes_at_once(tmp_path: Path, mode: Mode) -> None:
    with anyio.fail_after(30):
        async with received(tmp_path, mode):
            pass


async def test_an_idle_server_opens_its_engine_after_the_tools_were_listed(
    tmp_path: Path, mode: Mode
) -> None:
    async with (
        received(tmp_path, mode) as (client, activity, reception),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(reception.open_when_idle, activity)
        await client.list_tools()
        with anyio.fail_after(30):
            await reception.ready.wait()
        assert reception.is_open


async def test_an_unknown_tool_is_refused_with_the_names_of_those_there_are(
    tmp_path: Path, mode: Mode
) -> None:
    async with received(tmp_path, mode) as (client, _, _):
        with pytest.raises(Exception, match="The experts are: reviewer"):
            await client.call_tool("nobody", {})


class RequestWithoutClient(ToolCallRequest):
    """A call whose progress goes nowhere."""

    async def report(self, progress: float, message: str) -> None:
        return


async def test_the_span_of_a_call_names_the_job_and_the_ids_of_the_client(tmp_path: Path) -> None:
    tracer = TracerProvider().get_tracer("test")
    meta = {"claudecode/toolUseId": "t" * 500, "threadId": 5}
    async with engine_on(tmp_path, FakeModel({"reviewer": [done("x")]})) as engine:
        handler = ToolCallHandler(engine, wait_policy=WaitPolicy())
        expert = engine.definitions.experts["reviewer"]
        context = cast("RequestContext", None)
        request = RequestWithoutClient({"query": "q"}, meta, context, Caller())
        with tracer.start_as_current_span("tools/call reviewer") as span:
            result = await handler.call_expert(expert, request)
    assert isinstance(result, CallToolResult)
    assert isinstance(span, ReadableSpan)
    assert span.attributes == {
        "perstack.job.id": facts(result)["job_id"],
        "network.transport": "pipe",
        "perstack.client.tool_use_id": "t" * MAX_CLIENT_ID,
    }
