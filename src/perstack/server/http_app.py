"""The HTTP application around a server: where it is reached, and by whom."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mcp.server import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route

from perstack.server.listening import Address
from perstack.telemetry.propagation import TraceContextMiddleware

MCP_PATH = "/mcp"
MAX_BODY_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether calls can be answered, and if not, a reason that gives nothing away."""

    is_ready: bool
    reason: str


class HttpApp:
    """Streamable HTTP at `/mcp`, and two probes.

    Args:
        server: Answers the requests.
        security: Which hosts and origins are let in.
        readiness: Asked with each request of `/ready`.

    Attributes:
        asgi: The application; answers while `running`.
    """

    def __init__(
        self,
        server: Server[dict[str, Any]],
        security: TransportSecuritySettings,
        readiness: Callable[[], Readiness],
    ) -> None:
        self._sessions = StreamableHTTPSessionManager(
            server, security_settings=security, max_request_body_size=MAX_BODY_BYTES
        )
        routes: list[BaseRoute] = [
            *probes(readiness),
            Route(MCP_PATH, StreamableHTTPASGIApp(self._sessions)),
        ]
        self.asgi = TraceContextMiddleware(Starlette(routes=routes))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep sessions until the end of the context."""
        async with self._sessions.run():
            yield


def probes(readiness: Callable[[], Readiness]) -> list[BaseRoute]:
    """What an orchestrator asks, from whatever host and without a token."""

    def health(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    def ready(_request: Request) -> PlainTextResponse:
        state = readiness()
        return PlainTextResponse(f"{state.reason}\n", status_code=200 if state.is_ready else 503)

    return [Route("/health", health), Route("/ready", ready)]


def allowed(
    address: Address, hosts: tuple[str, ...], origins: tuple[str, ...]
) -> TransportSecuritySettings:
    """Which values of `Host` and `Origin` are let in, so that no web page reaches a local server.

    Args:
        address: Where the server listens.
        hosts: More hosts; one without a port is let in with any.
        origins: More origins.
    """
    local = [str(Address(host, address.port)) for host in ("localhost", "127.0.0.1", "::1")]
    own = list(dict.fromkeys([str(address), *local]))
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*own, *(form for host in hosts for form in (host, f"{host}:*"))],
        allowed_origins=[*(f"http://{host}" for host in own), *origins],
    )
