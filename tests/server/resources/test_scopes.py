"""What a token does not allow is answered like what is not there, by every way of reading."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from mcp import Client, MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from perstack.server.app import build_server
from perstack.server.auth.scopes import READ_JOBS, RUN
from perstack.server.context import ServerContext
from perstack.server.handlers.resources import PAGE_LENGTH
from perstack.server.resources.uris import TEMPLATES
from perstack.server.services import TenantServices
from tests.engines import engine_on
from tests.fakes import FakeModel, done
from tests.server.harness import Mode, SingleTenantServices, bearing, facts

pytestmark = pytest.mark.anyio

JOB = ResourceTemplateReference(type="ref/resource", uri=TEMPLATES["job"].text)
EXPERT = ResourceTemplateReference(type="ref/resource", uri=TEMPLATES["expert"].text)
WRITER = PromptReference(type="ref/prompt", name="writer")
ONE_EXPERT = f"{RUN}:writer"


@asynccontextmanager
async def with_a_job(folder: Path, mode: Mode, *scopes: str) -> AsyncGenerator[tuple[Client, str]]:
    """A client with some scopes, and the id of a job of its principal."""
    async with engine_on(folder, FakeModel({"writer": [done("Well.")]})) as engine:
        server = build_server(
            ServerContext(
                definitions=lambda: engine.definitions,
                tenants=SingleTenantServices(TenantServices(engine)),
            )
        )
        with bearing(RUN):
            async with Client(server, mode=mode) as everything:
                result = await everything.call_tool("writer", {"query": "Write."})
        with bearing(*scopes):
            async with Client(server, mode=mode) as some:
                yield some, facts(result)["job_id"]


async def test_who_may_not_read_jobs_finds_none(tmp_path: Path, mode: Mode) -> None:
    async with with_a_job(tmp_path, mode, ONE_EXPERT) as (client, job_id):
        listed = {resource.uri for resource in (await client.list_resources()).resources}
        templates = (await client.list_resource_templates()).resource_templates
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        ids = await client.complete(JOB, {"name": "job_id", "value": ""})
        refused = await told_of(client, job_id)
        absent = await told_of(client, "x" * len(job_id))
    assert listed == {"perstack://definitions", "perstack://experts/writer"}
    assert [template.uri_template for template in templates] == [TEMPLATES["expert"].text]
    assert prompts == ["writer"]
    assert ids.completion.values == []
    assert refused == [text.replace("x" * len(job_id), job_id) for text in absent]


async def told_of(client: Client, job_id: str) -> list[str]:
    """What a client is told of a job, by every way of reading."""
    answers: list[str] = []
    uris = [
        f"perstack://jobs/{job_id}{rest}" for rest in ("", "/events", "/checkpoints", "/result")
    ]
    for uri in uris:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)
        answers.append(str(caught.value.error))
    with pytest.raises(MCPError) as caught:
        await client.get_prompt("perstack_review_job", {"job_id": job_id})
    answers.append(str(caught.value.error))
    return answers


async def test_who_may_only_read_jobs_finds_no_expert(tmp_path: Path, mode: Mode) -> None:
    async with with_a_job(tmp_path, mode, READ_JOBS) as (client, job_id):
        listed = {resource.uri for resource in (await client.list_resources()).resources}
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        names = await client.complete(EXPERT, {"name": "name", "value": ""})
        with pytest.raises(MCPError, match="Resource not found"):
            await client.read_resource("perstack://experts/writer")
        with pytest.raises(MCPError, match="There is no prompt"):
            await client.get_prompt("writer", {"query": "x"})
        with pytest.raises(MCPError, match="There is no prompt"):
            await client.complete(WRITER, {"name": "job_id", "value": ""})
    assert listed == {
        "perstack://definitions",
        "perstack://jobs",
        f"perstack://jobs/{job_id}",
    }
    assert prompts == ["perstack_review_job"]
    assert names.completion.values == []


async def test_a_long_list_comes_in_pages(tmp_path: Path, mode: Mode) -> None:
    count = PAGE_LENGTH + 20
    toml = "".join(f'[experts."e{each}"]\ninstruction = "Do."\n' for each in range(count))
    async with engine_on(tmp_path, FakeModel({}), toml=toml) as engine:
        server = build_server(
            ServerContext(
                definitions=lambda: engine.definitions,
                tenants=SingleTenantServices(TenantServices(engine)),
            )
        )
        async with Client(server, mode=mode) as client:
            await client.list_tools()
            first = await client.list_resources()
            second = await client.list_resources(cursor=first.next_cursor)
    assert len(first.resources) == PAGE_LENGTH
    assert second.next_cursor is None
    found = {resource.uri for resource in first.resources + second.resources}
    assert len(found) == len(first.resources) + len(second.resources) == count + 2
