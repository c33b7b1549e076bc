"""The HTTP application around a server: where it is reached, and by whom."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from logging import CRITICAL, getLogger
from typing import Any, Protocol

from mcp.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perstack.server.tools.schemas import LONGEST_WAIT_SECONDS
from perstack.server.transports.drain import drain_on_disconnect
from perstack.server.transports.shutdown import InFlightRequests
from perstack.server.transports.sockets import HostValidationMiddleware, cors_middleware
from perstack.telemetry.propagation import TraceContextMiddleware

SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"


class SseEndpoint:
    """Serves each client for as long as its stream is open, and its calls to their end.

    Args:
        server: Answers the requests.
        security: Which hosts and origins are let in.
        max_body_bytes: Of one message.
    """

    def __init__(
        self,
        server: Server[dict[str, Any]],
        security: TransportSecuritySettings,
        max_body_bytes: int,
    ) -> None:
        self._server = server
        # Of a message that is none it would log all there is, with a traceback. The client is told.
        getLogger("mcp.server.sse").setLevel(CRITICAL)
        self._transport = SseServerTransport(MESSAGES_PATH, security, max_body_bytes)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI application: one client's stream of events."""
        async with self._transport.connect_sse(scope, receive, send) as (incoming, outgoing):
            receive_stream, send_stream = drain_on_disconnect(incoming, outgoing)
            options = self._server.create_initialization_options()
            await self._server.run(receive_stream, send_stream, options)

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI application: one message of a client."""
        await self._transport.handle_post_message(scope, receive, send)


MCP_PATH = "/mcp"
MAX_BODY_BYTES = 4 * 1024 * 1024
SESSION_IDLE_SECONDS = 2 * LONGEST_WAIT_SECONDS
"""Longer than any call waits: a session that ends takes calls along that lost their connection."""


class Auth(Protocol):
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
class HttpAccess:
    """Who reaches a server, and how.

    Attributes:
        security: Which hosts and origins are let in.
        readiness: Asked with each request of `/ready`.
        origins: Whose pages may read the answers.
        auth: Lets in who may come in; `None` lets in everyone.
        has_sse: Whether there is the older HTTP+SSE transport too.
    """

    security: TransportSecuritySettings
    readiness: Callable[[], Readiness]
    origins: tuple[str, ...] = ()
    auth: Auth | None = None
    has_sse: bool = False


class HttpApp:
    """Streamable HTTP at `/mcp`, on request HTTP+SSE at `/sse`, and two probes.

    Args:
        server: Answers the requests.
        access: Who reaches it.

    Attributes:
        requests: The application, which answers while `lifespan`, and what it is answering.
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
        # People write it either way.
        routes.extend(Route(path, endpoint) for path in (MCP_PATH, f"{MCP_PATH}/"))
        if access.has_sse:
            sse_endpoint = SseEndpoint(server, access.security, MAX_BODY_BYTES)
            routes.append(Route(SSE_PATH, self._protect(sse_endpoint.stream), methods=["GET"]))
            routes.append(Mount(MESSAGES_PATH, self._protect(sse_endpoint.post)))
        if access.auth is not None:
            routes.extend(access.auth.routes)
        # Before the gate: browsers ask whether a page may ask, and bring no token for that.
        middleware = cors_middleware(access.origins)
        if access.auth is not None:
            middleware.extend(access.auth.middleware)
        app = Starlette(routes=routes, middleware=middleware)
        # It would name the host of the request as its own, and http behind a proxy that has TLS:
        # whoever follows shows a token to whom it is not for.
        app.router.redirect_slashes = False
        self.requests = InFlightRequests(TraceContextMiddleware(app))

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        """Keep sessions until the end of the context."""
        async with self._sessions.run():
            yield

    def _protect(self, app: ASGIApp) -> ASGIApp:
        auth = self._access.auth
        return HostValidationMiddleware(
            app if auth is None else auth.guard(app), self._access.security
        )


def _probe_routes(readiness: Callable[[], Readiness]) -> list[BaseRoute]:
    """What an orchestrator asks, by whatever name it knows the server and without a token."""

    async def health(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    async def ready(_request: Request) -> PlainTextResponse:
        state = readiness()
        return PlainTextResponse(f"{state.reason}\n", status_code=200 if state.is_ready else 503)

    return [Route("/health", health), Route("/ready", ready)]
