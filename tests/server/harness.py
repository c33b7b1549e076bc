"""A server in this process: a real engine with fakes at its edges, and a client."""

from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import anyio
from mcp import Client
from mcp.client.session import ElicitationFnT
from mcp.server import Server
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp_types import CallToolResult, TextContent

from perstack.engine import Engine
from perstack.runtime.ports import Store
from perstack.server.app import build_server
from perstack.server.caller import Caller
from perstack.server.context import ServerContext
from perstack.server.services import TenantServices
from perstack.server.tools.definitions import PublishMode
from perstack.server.tools.wait import PollSettings, WaitPolicy
from tests.engines import TOML, engine_on
from tests.fakes import FakeModel, FakeSkills

Mode = Literal["auto", "legacy"]


class NoLeases:
    """Services that are never closed."""

    def lease(self, principal: str) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class SingleTenantServices(NoLeases):
    """The same office for everyone."""

    services: TenantServices

    async def services_for(self, caller: Caller) -> TenantServices:
        return self.services


@dataclass
class Stage:
    """Everything around a test's client."""

    engine: Engine
    server: Server[dict[str, Any]]
    client: Client
    progress: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        """Call a tool and note the progress."""

        async def note(progress: float, total: float | None, message: str | None) -> None:
            assert total is None
            self.progress.append((progress, message or ""))

        result = await self.client.call_tool(tool, arguments, progress_callback=note)
        assert isinstance(result, CallToolResult)
        return result


@asynccontextmanager
async def stage(
    folder: Path,
    mode: Mode,
    model: FakeModel,
    *,
    skills: FakeSkills | None = None,
    store: Store | None = None,
    toml: str = TOML,
    publish: PublishMode = "coordinators",
    has_job_tools: bool = True,
    rhythm: PollSettings | None = None,
    windows: WaitPolicy | None = None,
    max_steps: int | None = None,
    has_real_skills: bool = False,
    user: ElicitationFnT | None = None,
) -> AsyncGenerator[Stage]:
    """A client connected to a server on `toml`; a `user` can be shown forms."""
    async with (
        engine_on(
            folder,
            model,
            skills=skills,
            store=store,
            toml=toml,
            max_steps=max_steps,
            has_real_skills=has_real_skills,
        ) as engine,
        connected(
            engine,
            mode,
            publish=publish,
            has_job_tools=has_job_tools,
            rhythm=rhythm,
            windows=windows,
            user=user,
        ) as present,
    ):
        yield present


@asynccontextmanager
async def connected(
    engine: Engine,
    mode: Mode,
    *,
    publish: PublishMode = "coordinators",
    has_job_tools: bool = True,
    rhythm: PollSettings | None = None,
    windows: WaitPolicy | None = None,
    user: ElicitationFnT | None = None,
) -> AsyncGenerator[Stage]:
    """A client connected to a server of an engine."""
    office = TenantServices(
        engine, wait_policy=windows, has_job_tools=has_job_tools, poll_settings=rhythm
    )
    server = build_server(
        ServerContext(
            definitions=lambda: engine.definitions,
            tenants=SingleTenantServices(office),
            publish=publish,
            has_job_tools=has_job_tools,
        )
    )
    async with Client(server, mode=mode, elicitation_callback=user) as client:
        yield Stage(engine, server, client)


@contextmanager
def bearing(*scopes: str) -> Generator[None]:
    """Requests come with a token within the context."""
    token = AccessToken(token="t", client_id="c", scopes=list(scopes), subject="alice")
    before = auth_context_var.set(AuthenticatedUser(token))
    try:
        yield
    finally:
        auth_context_var.reset(before)


def texts(result: CallToolResult) -> list[str]:
    """The text blocks of a result."""
    return [block.text for block in result.content if isinstance(block, TextContent)]


def facts(result: CallToolResult) -> dict[str, Any]:
    """The structured content of a result."""
    content = result.structured_content
    assert isinstance(content, dict)
    return cast("dict[str, Any]", content)


async def until_called(skills: FakeSkills) -> None:
    """Wait until the expert has called a tool."""
    with anyio.fail_after(30):
        while not skills.called:
            await anyio.lowlevel.checkpoint()
