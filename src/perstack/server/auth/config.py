"""How callers authenticate, as the command line says it; free of heavy imports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

AuthKind = Literal["none", "tokens", "jwt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """The authentication settings of a server.

    Attributes:
        kind: The kind of authentication.
        tokens: The token file.
        issuer: The `iss` of tokens.
        resource: The public URL of the server.
        audiences: Accepted values of `aud`; by default `resource`.
        jwks: The issuer's public keys: a URL or the path of a file.
        required_scopes: Scopes that every token must have.
    """

    kind: AuthKind = "none"
    tokens: Path | None = None
    issuer: str | None = None
    resource: str | None = None
    audiences: tuple[str, ...] = ()
    jwks: str | None = None
    required_scopes: tuple[str, ...] = ()
