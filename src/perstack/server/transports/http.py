"""`perstack serve --http`: serves clients until SIGTERM or SIGINT."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from socket import socket

import anyio

from perstack.errors import ConfigError
from perstack.server.auth.provider import BearerAuth
from perstack.server.bootstrap import ServerOptions, ServerRuntime, create_runtime
from perstack.server.tenants.registry import TenantRegistry
from perstack.server.transports.asgi import MCP_PATH, HttpAccess, HttpApp, Readiness
from perstack.server.transports.shutdown import wait_for_signal
from perstack.server.transports.sockets import (
    HostPort,
    HttpListener,
    bind,
    build_security_settings,
    is_loopback,
    resolve,
)
from perstack.settings import Settings

SHUTDOWN_SECONDS = 1.5
DRAIN_SECONDS = 0.25
FORCED_SHUTDOWN_SECONDS = 3
"""The web server drops connections after this; requests have been cancelled long before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options of the HTTP server.

    Attributes:
        address: The address to listen on.
        has_sse: Whether the HTTP+SSE transport of 2024-11-05 is served at `/sse`.
        allowed_hosts: Accepted values of `Host` besides the address itself.
        allowed_origins: Accepted values of `Origin` besides the address itself.
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

    Args:
        settings: Settings of the engines.
        server_options: Options of the MCP server.
        http_options: Options of the HTTP server.
        on_listening: Called with the URL once clients can connect.
        until: Returns when the server is to stop.

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
        access = HttpAccess(
            security=build_security_settings(
                address, http_options.allowed_hosts, http_options.allowed_origins
            ),
            readiness=partial(_check_readiness, runtime.tenants),
            origins=http_options.allowed_origins,
            auth=http_options.auth,
            has_sse=http_options.has_sse,
        )
        url = f"http://{address}{MCP_PATH}"
        app = HttpApp(runtime.server, access)
        await _serve(runtime, app, listening_socket, partial(on_listening, url), until)


async def _serve(
    runtime: ServerRuntime,
    app: HttpApp,
    listening_socket: socket,
    on_listening: Callable[[], None],
    until: Callable[[], Awaitable[None]],
) -> None:
    listener = HttpListener(app.requests, shutdown_seconds=FORCED_SHUTDOWN_SECONDS)
    tenants = runtime.tenants
    shutdown_requested = anyio.Event()

    async def wait_for_shutdown() -> None:
        await until()
        shutdown_requested.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_shutdown)
        tasks.start_soon(tenants.run, runtime.activity)
        tasks.start_soon(runtime.watch_definitions)
        async with app.lifespan(), anyio.create_task_group() as listeners:
            listeners.start_soon(listener.serve, [listening_socket])
            # A reader of the URL may send a signal at once, so the handler is installed first.
            await anyio.lowlevel.checkpoint()
            on_listening()
            tasks.start_soon(tenants.open)
            await shutdown_requested.wait()
            listener.should_exit = True
            app.requests.stop_accepting()
            # Open calls return that their jobs were stopped and how to continue them.
            await tenants.close(SHUTDOWN_SECONDS)
            await runtime.notifications.close()
            await app.requests.drain(DRAIN_SECONDS)
        tasks.cancel_scope.cancel()


def _check_readiness(tenants: TenantRegistry) -> Readiness:
    if tenants.is_open:
        return Readiness(is_ready=True, reason="ready")
    if tenants.ready.is_set():
        return Readiness(is_ready=False, reason="cannot be opened; its log says why")
    return Readiness(is_ready=False, reason="opening")
