"""How long a client may keep what it was told."""

from pathlib import Path

import pytest
from mcp import Client
from mcp_types import CacheableResult

from perstack.server.app import build_server
from perstack.server.context import ServerContext
from perstack.server.services import TenantServices
from tests.engines import engine_on
from tests.fakes import FakeModel
from tests.server.harness import SingleTenantServices

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("seconds", [0, 60])
async def test_lists_last_as_long_as_it_was_set_up_and_what_shows_jobs_not_at_all(
    tmp_path: Path, seconds: int
) -> None:
    async with engine_on(tmp_path, FakeModel({})) as engine:
        face = ServerContext(
            definitions=lambda: engine.definitions,
            tenants=SingleTenantServices(TenantServices(engine)),
            list_ttl_seconds=seconds,
        )
        async with Client(build_server(face)) as client:
            lasting: list[CacheableResult] = [
                await client.list_tools(),
                await client.list_prompts(),
                await client.list_resource_templates(),
            ]
            fleeting: list[CacheableResult] = [
                await client.list_resources(),
                await client.read_resource("perstack://definitions"),
            ]
    assert {result.ttl_ms for result in lasting} == {seconds * 1000}
    assert {result.ttl_ms for result in fleeting} == {0}
    assert {result.cache_scope for result in (*lasting, *fleeting)} == {"private"}
