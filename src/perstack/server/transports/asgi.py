"""The ASGI application of `perstack serve --http`: routes, authentication and probes."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from logging import CRITICAL, getLogger
from typing import Any

from mcp.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perstack.server.auth.provider import BearerAuth
from perstack.server.tools.schemas import LONGEST_WAIT_SECONDS
from perstack.server.transports.drain import drain_on_disconnect
from perstack.server.transports.shutdown import InFlightRequests
from perstack.server.transports.sockets import HostValidationMiddleware, cors_middleware
from perstack.telemetry.propagation import TraceContextMiddleware

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"
MAX_BODY_BYTES = 4 * 1024 * 1024
SESSION_IDLE_SECONDS = 2 * LONGEST_WAIT_SECONDS
"""Longer than any call waits: a session that expires cancels calls that lost their connection."""


class SseEndpoint:
    """The HTTP+SSE transport of protocol 2024-11-05; calls outlive a lost connection."""

    def __init__(
        self,
        server: Server[dict[str, Any]],
        security: TransportSecuritySettings,
        max_body_bytes: int,
    ) -> None:
        self._server = server
        # It logs each invalid message whole and with a traceback; the client gets a 400 anyway.
        getLogger("mcp.server.sse").setLevel(CRITICAL)
        self._transport = SseServerTransport(MESSAGES_PATH, security, max_body_bytes)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI endpoint: the event stream of one client."""
        async with self._transport.connect_sse(scope, receive, send) as (incoming, outgoing):
            receive_stream, send_stream = drain_on_disconnect(incoming, outgoing)
            options = self._server.create_initialization_options()
            await self._server.run(receive_stream, send_stream, options)

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI endpoint: one message of a client."""
        await self._transport.handle_post_message(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether calls can be answered; the reason is safe to show to anyone."""

    is_ready: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAccess:
    """How a server is reached over HTTP.

    Attributes:
        security: Accepted hosts and origins.
        readiness: The answer of `/ready`.
        origins: Origins whose pages may read responses (CORS).
        auth: Authenticates requests; `None` accepts all of them.
        has_sse: Whether the HTTP+SSE transport of 2024-11-05 is served too.
    """

    security: TransportSecuritySettings
    readiness: Callable[[], Readiness]
    origins: tuple[str, ...] = ()
    auth: BearerAuth | None = None
    has_sse: bool = False


class HttpApp:
    """Streamable HTTP at `/mcp`, HTTP+SSE at `/sse` if enabled, `/health` and `/ready`.

    Attributes:
        requests: The ASGI application; it answers while `lifespan` is entered.
    """

    def __init__(self, server: Server[dict[str, Any]], access: HttpAccess) -> None:
        self._access = access
        self._sessions = StreamableHTTPSessionManager(
            server,
            security_settings=access.security,
            max_request_body_size=MAX_BODY_BYTES,
            session_idle_timeout=SESSION_IDLE_SECONDS,
        )
        routes = [*_probe_routes(access.readiness)]
        endpoint = self._protect(StreamableHTTPASGIApp(self._sessions))
        # Users write the path with and without the final slash.
        routes.extend(Route(path, endpoint) for path in (MCP_PATH, f"{MCP_PATH}/"))
        if access.has_sse:
            sse_endpoint = SseEndpoint(server, access.security, MAX_BODY_BYTES)
            routes.append(Route(SSE_PATH, self._protect(sse_endpoint.stream), methods=["GET"]))
            routes.append(Mount(MESSAGES_PATH, self._protect(sse_endpoint.post)))
        if access.auth is not None:
            routes.extend(access.auth.routes)
        # Before authentication, because a CORS preflight request carries no token.
        middleware = cors_middleware(access.origins)
        if access.auth is not None:
            middleware.extend(access.auth.middleware)
        app = Starlette(routes=routes, middleware=middleware)
        # A redirect would name the Host of the request, and http behind a TLS proxy: a client that
        # follows it sends its token to the wrong place.
        app.router.redirect_slashes = False
        self.requests = InFlightRequests(TraceContextMiddleware(app))

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Run the session manager."""
        async with self._sessions.run():
            yield

    def _protect(self, app: ASGIApp) -> ASGIApp:
        auth = self._access.auth
        return HostValidationMiddleware(
            app if auth is None else auth.guard(app), self._access.security
        )


def _probe_routes(readiness: Callable[[], Readiness]) -> list[BaseRoute]:
    """Probes of an orchestrator: no token, any Host."""

    async def health(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    async def ready(_request: Request) -> PlainTextResponse:
        state = readiness()
        return PlainTextResponse(f"{state.reason}\n", status_code=200 if state.is_ready else 503)

    return [Route("/health", health), Route("/ready", ready)]
