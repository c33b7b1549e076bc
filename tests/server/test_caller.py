"""Who called is found out once for each request, and is the same for all that handle it."""

from pathlib import Path

import pytest
from mcp import Client
from mcp.server.context import CallNext, HandlerResult

from perstack.server.app import build_server
from perstack.server.caller import Caller, RequestContext, caller_of
from perstack.server.context import ServerContext
from perstack.server.services import TenantServices
from tests.engines import engine_on
from tests.fakes import FakeModel, done
from tests.server.harness import Mode, SingleTenantServices

pytestmark = pytest.mark.anyio


class Observer:
    """Middleware that notes the callers of tool calls."""

    def __init__(self, seen: list[Caller]) -> None:
        self._seen = seen

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        if ctx.method == "tools/call":
            self._seen.append(caller_of(ctx))
        return await call_next(ctx)


async def test_all_middleware_of_a_request_sees_one_caller(tmp_path: Path, mode: Mode) -> None:
    seen: list[Caller] = []
    model = FakeModel({"reviewer": [done("x"), done("x")]})
    async with engine_on(tmp_path, model) as engine:
        services = SingleTenantServices(TenantServices(engine))
        server = build_server(
            ServerContext(definitions=lambda: engine.definitions, tenants=services)
        )
        server.middleware.insert(2, Observer(seen))
        server.middleware.append(Observer(seen))
        async with Client(server, mode=mode) as client:
            for _ in range(2):
                await client.call_tool("reviewer", {"query": "q"})
    first, first_again, second, second_again = seen
    assert first is first_again
    assert second is second_again
    assert first is not second
