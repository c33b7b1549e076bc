"""What an HTTP application needs to let in only whom it knows."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from pydantic import AnyHttpUrl
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from perstack.runtime.clock import SystemClock
from perstack.runtime.ports import Clock
from perstack.server.auth.scopes import SCOPES
from perstack.server.auth.streams import EndingStreams


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthResource:
    """How this server presents itself to clients that get their tokens from an OAuth issuer.

    Attributes:
        issuer: Where they get them.
        url: The address under which clients reach the server, which tokens are issued for.
    """

    issuer: AnyHttpUrl
    url: AnyHttpUrl


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Authentication of an HTTP server.

    Attributes:
        verifier: Knows the tokens.
        required_scopes: A token must have them all to be let in.
        resource: Where clients find their issuer; `None` for tokens that are handed out by hand.
        clock: Says when a stream ends because the token that opened it expires.
    """

    verifier: TokenVerifier
    required_scopes: tuple[str, ...] = ()
    resource: OAuthResource | None = None
    clock: Clock = field(default_factory=SystemClock)

    @property
    def middleware(self) -> Sequence[Middleware]:
        """For the whole application: finds out who calls, and lets everyone pass."""
        url = None if self.resource is None else self.resource.url
        backend = BearerAuthBackend(self.verifier, resource_server_url=url)
        return [
            Middleware(AuthenticationMiddleware, backend=backend),
            Middleware(AuthContextMiddleware),
        ]

    @property
    def routes(self) -> Sequence[Route]:
        """The protected resource metadata of RFC 9728, open to everyone."""
        if self.resource is None:
            return []
        return create_protected_resource_routes(
            self.resource.url,
            [self.resource.issuer],
            scopes_supported=sorted({*SCOPES, *self.required_scopes}),
            resource_name="Perstack",
        )

    def guard(self, app: ASGIApp) -> ASGIApp:
        """An endpoint that answers whoever is not known with 401 or 403."""
        metadata = None if self.resource is None else build_resource_metadata_url(self.resource.url)
        streams = EndingStreams(app, self.clock)
        return RequireAuthMiddleware(streams, list(self.required_scopes), metadata)
