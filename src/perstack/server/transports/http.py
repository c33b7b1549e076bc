"""`perstack serve --http`: serves clients until SIGTERM or SIGINT.

Streamable HTTP is at `/mcp`, HTTP+SSE at `/sse` if enabled, probes are at `/health` and `/ready`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from logging import CRITICAL, getLogger
from socket import socket
from typing import Any

import anyio
from mcp.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import (
    RequestBodyLimitMiddleware,
    TransportSecuritySettings,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from perstack.errors import ConfigError
from perstack.server.auth.provider import BearerAuth
from perstack.server.bootstrap import ServerOptions, ServerRuntime, create_runtime
from perstack.server.tenants.registry import TenantRegistry
from perstack.server.tools.schemas import LONGEST_WAIT_SECONDS
from perstack.server.transports.drain import drain_on_disconnect
from perstack.server.transports.http_messages import HttpMessages
from perstack.server.transports.shutdown import InFlightRequests, wait_for_signal
from perstack.server.transports.sockets import (
    HostPort,
    HostValidationMiddleware,
    HttpListener,
    bind,
    build_security_settings,
    error_response,
    is_loopback,
    resolve,
)
from perstack.settings import Settings
from perstack.telemetry.propagation import TraceContextMiddleware

MCP_PATH = "/mcp"
SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"
MAX_BODY_BYTES = 4 * 1024 * 1024
SESSION_IDLE_SECONDS = 2 * LONGEST_WAIT_SECONDS
"""Longer than any call waits: a session that expires cancels calls that lost their connection."""

SHUTDOWN_SECONDS = 1.5
DRAIN_SECONDS = 0.25
FORCED_SHUTDOWN_SECONDS = 3
"""The web server drops connections after this; requests have been cancelled long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options of the HTTP server.

    Attributes:
        has_sse: Whether the HTTP+SSE transport of 2024-11-05 is served at `/sse`.
        allowed_hosts: Accepted values of `Host` besides the address itself.
        allowed_origins: Accepted values of `Origin` besides the address itself. Their pages may
            read responses (CORS).
        auth: Authenticates requests; `None` accepts all of them.
        allows_unauthenticated: Whether a non-loopback address may be served without `auth`.
    """

    address: HostPort
    has_sse: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    auth: BearerAuth | None = None
    allows_unauthenticated: bool = False


async def serve_http(
    settings: Settings,
    server_options: ServerOptions,
    http_options: HttpOptions,
    on_listening: Callable[[str], None],
    until: Callable[[], Awaitable[None]] = wait_for_signal,
) -> None:
    """Serve until `until` returns; jobs that still run are then stopped, resumable.

    Calls `on_listening` with the URL once clients can connect.

    Raises:
        ConfigError: The address cannot be used, or is not loopback and has no authentication.
        DefinitionError: The definition file cannot be found or accepted.
    """
    runtime = create_runtime(replace(settings, transport="http"), server_options)
    resolved = resolve(http_options.address)
    if not (is_loopback(resolved) or http_options.auth or http_options.allows_unauthenticated):
        raise ConfigError(
            f"{http_options.address} can be reached from other machines, by anyone.",
            hint="Ask for authentication with --auth, listen on 127.0.0.1, "
            "or say --allow-unauthenticated if that is meant.",
        )
    with bind(resolved) as (listening_socket, address):
        security = build_security_settings(
            address, http_options.allowed_hosts, http_options.allowed_origins
        )
        sessions = StreamableHTTPSessionManager(
            runtime.server,
            security_settings=security,
            max_request_body_size=MAX_BODY_BYTES,
            session_idle_timeout=SESSION_IDLE_SECONDS,
        )
        requests = InFlightRequests(_create_app(runtime, sessions, security, http_options))
        on_bound = partial(on_listening, f"http://{address}{MCP_PATH}")
        await _serve(runtime, sessions, requests, listening_socket, on_bound, until)


async def _serve(
    runtime: ServerRuntime,
    sessions: StreamableHTTPSessionManager,
    requests: InFlightRequests,
    listening_socket: socket,
    on_listening: Callable[[], None],
    until: Callable[[], Awaitable[None]],
) -> None:
    listener = HttpListener(requests, shutdown_seconds=FORCED_SHUTDOWN_SECONDS)
    tenants = runtime.tenants
    shutdown_requested = anyio.Event()

    async def wait_for_shutdown() -> None:
        await until()
        shutdown_requested.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_shutdown)
        tasks.start_soon(tenants.run, runtime.activity)
        tasks.start_soon(runtime.definitions_watcher.watch)
        async with sessions.run(), anyio.create_task_group() as listeners:
            listeners.start_soon(listener.serve, [listening_socket])
            # A reader of the URL may send a signal at once, so the handler is installed first.
            await anyio.lowlevel.checkpoint()
            on_listening()
            tasks.start_soon(tenants.open)
            await shutdown_requested.wait()
            listener.should_exit = True
            requests.stop_accepting()
            # Open calls return that their jobs were stopped and how to continue them.
            await tenants.close(SHUTDOWN_SECONDS)
            await runtime.notifications.close()
            await requests.drain(DRAIN_SECONDS)
        tasks.cancel_scope.cancel()


def _create_app(
    runtime: ServerRuntime,
    sessions: StreamableHTTPSessionManager,
    security: TransportSecuritySettings,
    options: HttpOptions,
) -> ASGIApp:
    auth = options.auth

    def protect(app: ASGIApp) -> ASGIApp:
        return HostValidationMiddleware(app if auth is None else auth.guard(app), security)

    endpoint = protect(_limit(HttpMessages(StreamableHTTPASGIApp(sessions))))
    routes: list[BaseRoute] = [
        *_probe_routes(runtime.tenants),
        # Users write the path with and without the final slash.
        Route(MCP_PATH, endpoint),
        Route(f"{MCP_PATH}/", endpoint),
    ]
    if options.has_sse:
        transport = SseServerTransport(MESSAGES_PATH, security, MAX_BODY_BYTES)
        # It logs each invalid message whole and with a traceback; the client gets a 400 anyway.
        getLogger("mcp.server.sse").setLevel(CRITICAL)
        stream = partial(_serve_sse_stream, runtime.server, transport)
        routes.append(Route(SSE_PATH, protect(stream), methods=["GET"]))
        messages = HttpMessages(transport.handle_post_message, negotiates=False)
        routes.append(Mount(MESSAGES_PATH, protect(_limit(messages))))
    middleware: list[Middleware] = []
    if options.allowed_origins:
        # Before authentication, because a CORS preflight request carries no token.
        cors = Middleware(
            CORSMiddleware,
            allow_origins=options.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["mcp-session-id", "www-authenticate"],
        )
        middleware.append(cors)
    if auth is not None:
        routes.extend(auth.routes)
        middleware.extend(auth.middleware)
    app = Starlette(
        routes=routes, middleware=middleware, exception_handlers={HTTPException: _json_error}
    )
    # A redirect would name the Host of the request, and http behind a TLS proxy: a client that
    # follows it sends its token to the wrong place.
    app.router.redirect_slashes = False
    return TraceContextMiddleware(app)


def _limit(app: ASGIApp) -> ASGIApp:
    return RequestBodyLimitMiddleware(app, MAX_BODY_BYTES)


async def _json_error(request: Request, error: Exception) -> JSONResponse:
    """What OAuth clients read, which look for metadata and registration on every server."""
    status, headers = (
        (error.status_code, error.headers) if isinstance(error, HTTPException) else (500, None)
    )
    phrase = HTTPStatus(status).phrase
    return error_response(
        status, f"{phrase}: {request.method} {request.url.path}. MCP is at {MCP_PATH}.", headers
    )


async def _serve_sse_stream(
    server: Server[dict[str, Any]],
    transport: SseServerTransport,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    """The event stream of one HTTP+SSE client, whose calls outlive a lost connection."""
    async with transport.connect_sse(scope, receive, send) as (incoming, outgoing):
        receive_stream, send_stream = drain_on_disconnect(incoming, outgoing)
        options = server.create_initialization_options()
        await server.run(receive_stream, send_stream, options)


def _probe_routes(tenants: TenantRegistry) -> list[BaseRoute]:
    """Probes of an orchestrator: no token, any Host. Their answers are safe to show to anyone."""

    async def health(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    async def ready(_request: Request) -> PlainTextResponse:
        if tenants.is_open:
            return PlainTextResponse("ready\n")
        has_failed = tenants.ready.is_set()
        reason = "cannot be opened; its log says why" if has_failed else "opening"
        return PlainTextResponse(f"{reason}\n", status_code=503)

    return [Route("/health", health), Route("/ready", ready)]
