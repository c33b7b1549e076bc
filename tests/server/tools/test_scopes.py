"""Callers are told of tools that they have, and of no other way on."""

from pathlib import Path

import anyio
import pytest
from mcp import MCPError

from perstack.server.app import build_server
from perstack.server.auth.scopes import CANCEL_JOBS, RUN
from perstack.server.context import ServerContext
from perstack.server.services import TenantServices
from tests.engines import engine_on
from tests.fakes import FakeModel, FakeSkills, call, calls, done
from tests.server.harness import Mode, SingleTenantServices, bearing, facts, stage, texts
from tests.server.tasks.client import task_client

pytestmark = pytest.mark.anyio

ONE_EXPERT = f"{RUN}:writer"


@pytest.mark.parametrize("scopes", [(ONE_EXPERT,), (ONE_EXPERT, CANCEL_JOBS)])
async def test_who_may_not_see_jobs_waits_by_calling_the_expert(
    tmp_path: Path, mode: Mode, scopes: tuple[str, ...]
) -> None:
    model = FakeModel({"writer": [calls(call("echo", "c1")), done("x" * 50_000)]})
    skills = FakeSkills(gate=anyio.Event())
    with bearing(*scopes):
        async with stage(tmp_path, mode, model, skills=skills) as here:
            described = (await here.client.list_tools()).tools[0].description
            running = await here.call("writer", query="q", wait_seconds=0)
            assert skills.gate is not None
            skills.gate.set()
            long = await here.call("writer", query="", job_id=facts(running)["job_id"])
    told = "\n".join([described or "", *texts(running), *texts(long)])
    assert "call writer with this job_id" in told
    assert "are left out here" in told
    assert "perstack_job" not in told


async def test_a_job_that_is_not_there_is_looked_for_with_the_tools_of_the_server(
    tmp_path: Path, mode: Mode
) -> None:
    async with stage(tmp_path, mode, FakeModel({})) as here:
        of_expert = await here.call("writer", query="q", job_id="nope")
        of_tool = await here.call("perstack_job", job_id="nope")
    assert (
        texts(of_expert)
        == texts(of_tool)
        == ["There is no job nope. perstack_jobs lists the jobs."]
    )


@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
async def test_for_who_may_not_see_jobs_there_is_no_task(tmp_path: Path, method: str) -> None:
    async with engine_on(tmp_path, FakeModel({"writer": [done("Well.")]})) as engine:
        server = build_server(
            ServerContext(
                definitions=lambda: engine.definitions,
                tenants=SingleTenantServices(TenantServices(engine)),
            )
        )
        with bearing(ONE_EXPERT):
            async with task_client(server) as client:
                result = await client.call("writer", query="q")
                with pytest.raises(MCPError, match="There is no task"):
                    await client.ask(method, result["structuredContent"]["job_id"])
