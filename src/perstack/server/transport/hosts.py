"""Which hosts and origins a server answers for, so that no web page reaches one on its machine.

A page can make a browser send requests to any address, and by a name of its own that leads to this
machine it could even read the answers. Both show in the headers `Origin` and `Host`.
"""

from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from perstack.server.transport.listening import Address

HTTP_PORT = 80
REMEDY = {
    421: "This server does not answer for that host; --allowed-host lets it in.\n",
    403: "This server does not answer pages of that origin; --allowed-origin lets it in.\n",
}


def allowed(
    address: Address, hosts: tuple[str, ...], origins: tuple[str, ...]
) -> TransportSecuritySettings:
    """Which values of `Host` and `Origin` are let in.

    Args:
        address: Where the server listens.
        hosts: More hosts; one without a port is let in with any.
        origins: More origins.
    """
    names = (address.host, "localhost", "127.0.0.1", "::1")
    own = [str(Address(name, address.port)) for name in dict.fromkeys(names)]
    if address.port == HTTP_PORT:  # which clients leave out
        own += [name.removesuffix(f":{HTTP_PORT}") for name in own]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[*own, *(form for host in hosts for form in (host, f"{host}:*"))],
        allowed_origins=[*(f"http://{host}" for host in own), *origins],
    )


def readable_by(origins: tuple[str, ...]) -> list[Middleware]:
    """What tells browsers that pages of these origins may ask and read the answers."""
    if not origins:
        return []
    shared = Middleware(
        CORSMiddleware,
        allow_origins=origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["*"],
        expose_headers=["mcp-session-id", "www-authenticate"],
    )
    return [shared]


class HostCheck:
    """ASGI middleware that refuses requests for other hosts and from other origins.

    Args:
        app: The application to wrap.
        security: What is let in.
    """

    def __init__(self, app: ASGIApp, security: TransportSecuritySettings) -> None:
        self._app = app
        self._check = TransportSecurityMiddleware(security)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._check.validate_request(Request(scope))
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status = refusal.status_code
        await PlainTextResponse(REMEDY[status], status_code=status)(scope, receive, send)
