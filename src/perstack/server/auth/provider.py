"""Bearer authentication of the HTTP server, created from its options."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import (
    AuthenticatedUser,
    BearerAuthBackend,
    RequireAuthMiddleware,
)
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from pydantic import AnyHttpUrl, ConfigDict, TypeAdapter, ValidationError
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perstack.errors import ConfigError
from perstack.runtime.ports import Clock, SystemClock
from perstack.server.auth.config import AuthOptions
from perstack.server.auth.jwks import FileJwksSource, UrlJwksSource, require_secure_url
from perstack.server.auth.jwt import ExpectedClaims, JwtVerifier
from perstack.server.auth.scopes import SCOPES
from perstack.server.auth.token_file import TokenFileVerifier

MAX_STREAM_SECONDS = 3600.0
"""A client must authenticate again after this; its token may have been revoked meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BearerAuth:
    """Authenticates HTTP requests.

    Attributes:
        required_scopes: Scopes that every token must have.
        resource_url: The public URL of this server, which an issuer's tokens are issued for.
        issuer: The OAuth issuer; `None` for static tokens.
        clock: Decides when a stream ends because its token expires.
    """

    verifier: TokenVerifier
    required_scopes: tuple[str, ...] = ()
    resource_url: AnyHttpUrl | None = None
    issuer: AnyHttpUrl | None = None
    clock: Clock = field(default_factory=SystemClock)

    @property
    def middleware(self) -> Sequence[Middleware]:
        """Middleware for the whole application: authenticates, but rejects no request."""
        backend = BearerAuthBackend(self.verifier, resource_server_url=self.resource_url)
        return [
            Middleware(AuthenticationMiddleware, backend=backend),
            Middleware(AuthContextMiddleware),
        ]

    @property
    def routes(self) -> Sequence[Route]:
        """The protected resource metadata of RFC 9728, served without authentication."""
        if self.resource_url is None or self.issuer is None:
            return []
        return create_protected_resource_routes(
            self.resource_url,
            [self.issuer],
            scopes_supported=sorted({*SCOPES, *self.required_scopes}),
            resource_name="Perstack",
        )

    def guard(self, app: ASGIApp) -> ASGIApp:
        """The endpoint, with 401 or 403 for requests without a sufficient token."""
        url = self.resource_url
        metadata = None if url is None else build_resource_metadata_url(url)
        streams = StreamExpiryMiddleware(app, self.clock)
        return RequireAuthMiddleware(streams, list(self.required_scopes), metadata)


class StreamExpiryMiddleware:
    """ASGI middleware that ends notification streams with their token.

    A tool call is not interrupted: its token was valid when it was made.
    """

    def __init__(self, app: ASGIApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = scope.get("user")
        if not isinstance(user, AuthenticatedUser) or not _is_stream(scope):
            await self._app(scope, receive, send)
            return
        is_body_open = False

        async def tracked_send(message: Message) -> None:
            nonlocal is_body_open
            is_body_open = message.get("more_body", True)
            await send(message)

        with anyio.move_on_after(self._seconds_left(user.access_token.expires_at)) as timeout:
            await self._app(scope, receive, tracked_send)
        if timeout.cancelled_caught and is_body_open:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _seconds_left(self, expires_at: int | None) -> float:
        if expires_at is None:
            return MAX_STREAM_SECONDS
        return min(MAX_STREAM_SECONDS, max(0.0, expires_at - self._clock.now_ms() / 1000))


def _is_stream(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    is_subscription = Request(scope).headers.get("mcp-method") == "subscriptions/listen"
    return scope["method"] == "GET" or is_subscription


# Clients compare the issuer exactly, so no slash may be added.
URL_ADAPTER = TypeAdapter(AnyHttpUrl, config=ConfigDict(url_preserve_empty_path=True))


def create_auth(options: AuthOptions, clock: Clock | None = None) -> BearerAuth | None:
    """Authentication as configured; `None` for none. Keys at a URL are not fetched yet.

    Raises:
        ConfigError: An option is missing or invalid.
    """
    clock = clock or SystemClock()
    if options.kind == "none":
        return None
    if options.kind == "jwt":
        return _create_jwt_auth(options, clock)
    if options.tokens is None:
        raise ConfigError(
            "--auth tokens needs --tokens FILE.", hint="Make an entry with `perstack token`."
        )
    verifier = TokenFileVerifier(options.tokens, clock)
    return BearerAuth(verifier=verifier, required_scopes=options.required_scopes)


def _create_jwt_auth(options: AuthOptions, clock: Clock) -> BearerAuth:
    issuer, resource, jwks = options.issuer, options.resource, options.jwks
    if issuer is None or resource is None or jwks is None:
        required = {"--issuer": issuer, "--resource": resource, "--jwks": jwks}
        missing = ", ".join(flag for flag, value in required.items() if value is None)
        raise ConfigError(f"--auth jwt needs {missing} too.", hint="See perstack serve --help.")
    require_secure_url(issuer, "--issuer")
    require_secure_url(resource, "--resource")
    url = _parse_url(resource)
    expected = ExpectedClaims(
        issuer=issuer,
        audiences=frozenset(options.audiences or (resource,)),
        resource=str(url),
    )
    is_url = urlsplit(jwks).scheme in ("http", "https")
    keys = UrlJwksSource(jwks, clock) if is_url else FileJwksSource(Path(jwks))
    return BearerAuth(
        verifier=JwtVerifier(keys, expected, clock),
        required_scopes=options.required_scopes,
        resource_url=url,
        issuer=_parse_url(issuer),
    )


def _parse_url(text: str) -> AnyHttpUrl:
    try:
        return URL_ADAPTER.validate_python(text)
    except ValidationError as error:
        raise ConfigError(f"{text!r} is not a URL.", hint="Write it as https://….") from error
