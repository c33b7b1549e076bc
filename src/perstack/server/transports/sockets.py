"""Listening sockets, the web server on them, and checks of `Host` and `Origin`."""

import errno
import socket
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address

import uvicorn
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from perstack.errors import ConfigError

KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep idle connections, so that the server never closes one in use."""
HTTP_PORT = 80
REJECTION_MESSAGES = {
    421: "This server does not answer for that host; --allowed-host lets it in.",
    403: "This server does not answer pages of that origin; --allowed-origin lets it in.",
}


@dataclass(frozen=True, slots=True)
class HostPort:
    """A host name or IP address and a port; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def resolve(address: HostPort) -> HostPort:
    """The address with the host as an IP address.

    Raises:
        ConfigError: The host cannot be resolved.
    """
    try:
        addresses = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _as_config_error(address, error) from error
    return HostPort(str(addresses[0][4][0]), address.port)


@contextmanager
def bind(address: HostPort) -> Generator[tuple[socket.socket, HostPort]]:
    """A listening socket at a resolved address, and the address with its actual port.

    Raises:
        ConfigError: The address is in use, forbidden, or not one of this machine.
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
    """Whether a resolved address is reachable from this machine only."""
    return ip_address(address.host.partition("%")[0]).is_loopback


class HttpListener(uvicorn.Server):
    """Uvicorn until `should_exit`, without signal handlers."""

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


def build_security_settings(
    address: HostPort, hosts: tuple[str, ...], origins: tuple[str, ...]
) -> TransportSecuritySettings:
    """The accepted values of `Host` and `Origin`.

    A further host without a port is accepted with any port.
    """
    names = (address.host, "localhost", "127.0.0.1", "::1")
    own_hosts = [str(HostPort(name, address.port)) for name in dict.fromkeys(names)]
    if address.port == HTTP_PORT:  # clients leave the default port out
        own_hosts += [name.removesuffix(f":{HTTP_PORT}") for name in own_hosts]
    all_hosts = [*own_hosts, *(pattern for host in hosts for pattern in (host, f"{host}:*"))]
    all_origins = [*(f"http://{host}" for host in own_hosts), *origins]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[host.lower() for host in all_hosts],
        allowed_origins=[origin.lower() for origin in all_origins],
    )


def error_response(
    status: int, description: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A refusal in the form of OAuth's errors, because clients parse the body of any refusal."""
    name = HTTPStatus(status).phrase.lower().replace(" ", "_")
    body = {"error": name, "error_description": description}
    return JSONResponse(body, status_code=status, headers=headers)


class HostValidationMiddleware:
    """ASGI middleware that rejects other hosts (421) and other origins (403)."""

    def __init__(self, app: ASGIApp, security: TransportSecuritySettings) -> None:
        self._app = app
        self._validator = TransportSecurityMiddleware(security)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Names of hosts are the same in any case; the SDK compares them letter by letter.
        lowered = [
            (name, value.lower() if name in (b"host", b"origin") else value)
            for name, value in scope["headers"]
        ]
        scope = {**scope, "headers": lowered}
        rejection = await self._validator.validate_request(Request(scope))
        if rejection is None:
            await self._app(scope, receive, send)
            return
        status = rejection.status_code
        await error_response(status, REJECTION_MESSAGES[status])(scope, receive, send)
