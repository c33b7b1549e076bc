"""Where an HTTP server listens, and the loop that reads requests there."""

import errno
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address

import uvicorn
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from perstack.errors import ConfigError

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep a connection that they may use again, so that none closes under them."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host, by name or by number, and a port; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def resolve(address: HostPort) -> HostPort:
    """The address as the machine knows it.

    Raises:
        ConfigError: No such host is known.
    """
    try:
        addresses = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _as_config_error(address, error) from error
    return HostPort(str(addresses[0][4][0]), address.port)


@contextmanager
def bind(address: HostPort) -> Generator[tuple[socket.socket, HostPort]]:
    """A socket that accepts connections at an address in numbers, and the address with its port.

    Raises:
        ConfigError: The address is taken, forbidden, or none of this machine's.
    """
    is_v6 = ":" in address.host
    try:
        listening_socket = socket.create_server(
            (address.host, address.port),
            family=socket.AF_INET6 if is_v6 else socket.AF_INET,
            dualstack_ipv6=address.host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise _as_config_error(address, error) from error
    with listening_socket:
        yield listening_socket, HostPort(address.host, listening_socket.getsockname()[1])


def is_loopback(address: HostPort) -> bool:
    """Whether only programs of this machine reach the address, given in numbers."""
    return ip_address(address.host.partition("%")[0]).is_loopback


class HttpListener(uvicorn.Server):
    """Reads requests until `should_exit`; signals are the business of who started it."""

    def __init__(self, app: ASGIApp, *, shutdown_seconds: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=shutdown_seconds,
            )
        )

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals alone."""
        yield


def _as_config_error(address: HostPort, error: OSError) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        hint = "Another program listens there; choose another port, or 0 for any that is free."
        return ConfigError(f"{address} is already in use.", hint=hint)
    if error.errno == errno.EACCES:
        hint = "Ports below 1024 are reserved; choose a higher one."
        return ConfigError(f"{address} may not be used.", hint=hint)
    hint = "Name an address of this machine, such as 127.0.0.1:8000."
    return ConfigError(f"{address} cannot be listened on: {error.strerror}.", hint=hint)


HTTP_PORT = 80
REJECTION_MESSAGES = {
    421: "This server does not answer for that host; --allowed-host lets it in.\n",
    403: "This server does not answer pages of that origin; --allowed-origin lets it in.\n",
}


def build_security_settings(
    address: HostPort, hosts: tuple[str, ...], origins: tuple[str, ...]
) -> TransportSecuritySettings:
    """Which values of `Host` and `Origin` are let in.

    Args:
        address: Where the server listens.
        hosts: More hosts; one without a port is let in with any.
        origins: More origins.
    """
    names = (address.host, "localhost", "127.0.0.1", "::1")
    own_hosts = [str(HostPort(name, address.port)) for name in dict.fromkeys(names)]
    if address.port == HTTP_PORT:  # which clients leave out
        own_hosts += [name.removesuffix(f":{HTTP_PORT}") for name in own_hosts]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*own_hosts, *(pattern for host in hosts for pattern in (host, f"{host}:*"))],
        allowed_origins=[*(f"http://{host}" for host in own_hosts), *origins],
    )


def cors_middleware(origins: tuple[str, ...]) -> list[Middleware]:
    """What tells browsers that pages of these origins may ask and read the answers."""
    if not origins:
        return []
    cors = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["mcp-session-id", "www-authenticate"],
    )
    return [cors]


class HostValidationMiddleware:
    """ASGI middleware that refuses requests for other hosts and from other origins.

    Args:
        app: The application to wrap.
        security: What is let in.
    """

    def __init__(self, app: ASGIApp, security: TransportSecuritySettings) -> None:
        self._app = app
        self._validator = TransportSecurityMiddleware(security)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rejection = await self._validator.validate_request(Request(scope))
        if rejection is None:
            await self._app(scope, receive, send)
            return
        status = rejection.status_code
        await PlainTextResponse(REJECTION_MESSAGES[status], status_code=status)(
            scope, receive, send
        )
