"""What the HTTP headers that repeat arguments of a call are compared with."""

from pathlib import Path

import pytest

from perstack.server.app import build_server
from perstack.server.auth.scopes import RUN
from perstack.server.context import ServerContext
from perstack.server.services import TenantServices
from tests.engines import engine_on
from tests.fakes import FakeModel
from tests.server.harness import SingleTenantServices, bearing

pytestmark = pytest.mark.anyio

SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "N"}}}'
TOML = f"""
[experts.sorter]
instruction = "Sort."
[experts.sorter.tool]
inputSchema = '{SCHEMA}'
[experts.writer]
instruction = "Write."
"""


async def test_it_is_what_an_expert_declares_to_those_who_may_call_it(tmp_path: Path) -> None:
    async with engine_on(tmp_path, FakeModel({}), toml=TOML) as engine:
        schema_of = build_server(
            ServerContext(
                definitions=lambda: engine.definitions,
                tenants=SingleTenantServices(TenantServices(engine)),
            )
        ).get_tool_input_schema
        assert schema_of is not None
        declared = schema_of("sorter")
        with bearing(f"{RUN}:writer"):
            withheld = schema_of("sorter")

        assert declared is not None
        assert declared["properties"]["n"]["x-mcp-header"] == "N"
        assert withheld is schema_of("nobody") is schema_of("writer") is None
