"""The HTTP application around a server: where it is reached, and by whom."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from perstack.server.calls.schemas import LONGEST_WAIT_SECONDS
from perstack.server.transport.hosts import HostCheck, readable_by
from perstack.server.transport.open_requests import OpenRequests
from perstack.server.transport.sse import MESSAGES_PATH, SSE_PATH, SseEndpoint
from perstack.telemetry.propagation import TraceContextMiddleware

MCP_PATH = "/mcp"
MAX_BODY_BYTES = 4 * 1024 * 1024
SESSION_IDLE_SECONDS = 2 * LONGEST_WAIT_SECONDS
"""Longer than any call waits: a session that ends takes calls along that lost their connection."""


class Gate(Protocol):
    """Lets in who may come in."""

    @property
    def middleware(self) -> Sequence[Middleware]:
        """Finds out who it is, for every request."""
        ...

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """What says how to get in; open to all."""
        ...

    def guard(self, app: ASGIApp) -> ASGIApp:
        """The application, for those who may come in."""
        ...


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether calls can be answered, and if not, a reason that gives nothing away."""

    is_ready: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who reaches a server, and how.

    Attributes:
        security: Which hosts and origins are let in.
        readiness: Asked with each request of `/ready`.
        origins: Whose pages may read the answers.
        gate: Lets in who may come in; `None` lets in everyone.
        has_sse: Whether there is the older HTTP+SSE transport too.
    """

    security: TransportSecuritySettings
    readiness: Callable[[], Readiness]
    origins: tuple[str, ...] = ()
    gate: Gate | None = None
    has_sse: bool = False


class HttpApp:
    """Streamable HTTP at `/mcp`, on request HTTP+SSE at `/sse`, and two probes.

    Args:
        server: Answers the requests.
        access: Who reaches it.

    Attributes:
        requests: The application, which answers while `running`, and what it is answering.
    """

    def __init__(self, server: Server[dict[str, Any]], access: Access) -> None:
        self._access = access
        self._sessions = StreamableHTTPSessionManager(
            server,
            security_settings=access.security,
            max_request_body_size=MAX_BODY_BYTES,
            session_idle_timeout=SESSION_IDLE_SECONDS,
        )
        routes = [*_probes(access.readiness)]
        endpoint = self._guarded(StreamableHTTPASGIApp(self._sessions))
        # People write it either way.
        routes.extend(Route(path, endpoint) for path in (MCP_PATH, f"{MCP_PATH}/"))
        if access.has_sse:
            older = SseEndpoint(server, access.security, MAX_BODY_BYTES)
            routes.append(Route(SSE_PATH, self._guarded(older.stream), methods=["GET"]))
            routes.append(Mount(MESSAGES_PATH, self._guarded(older.post)))
        if access.gate is not None:
            routes.extend(access.gate.routes)
        # Before the gate: browsers ask whether a page may ask, and bring no token for that.
        middleware = readable_by(access.origins)
        if access.gate is not None:
            middleware.extend(access.gate.middleware)
        app = Starlette(routes=routes, middleware=middleware)
        # It would name the host of the request as its own, and http behind a proxy that has TLS:
        # whoever follows shows a token to whom it is not for.
        app.router.redirect_slashes = False
        self.requests = OpenRequests(TraceContextMiddleware(app))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep sessions until the end of the context."""
        async with self._sessions.run():
            yield

    def _guarded(self, app: ASGIApp) -> ASGIApp:
        gate = self._access.gate
        return HostCheck(app if gate is None else gate.guard(app), self._access.security)


def _probes(readiness: Callable[[], Readiness]) -> list[BaseRoute]:
    """What an orchestrator asks, by whatever name it knows the server and without a token."""

    async def health(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    async def ready(_request: Request) -> PlainTextResponse:
        state = readiness()
        return PlainTextResponse(f"{state.reason}\n", status_code=200 if state.is_ready else 503)

    return [Route("/health", health), Route("/ready", ready)]
