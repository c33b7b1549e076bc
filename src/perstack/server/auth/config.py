"""How callers authenticate, as the command line says it; free of heavy imports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

AuthKind = Literal["none", "tokens", "jwt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """The authentication settings of a server.

    Attributes:
        kind: Whether users are known, and by what.
        tokens: The file of tokens.
        issuer: The OAuth issuer, as its tokens name it.
        resource: The address of the server as its users see it.
        audiences: What the issuer writes as audience; else `resource`.
        jwks: Where the issuer's public keys are: a URL, or the path of a file.
        required_scopes: A token must have them all to be let in.
    """

    kind: AuthKind = "none"
    tokens: Path | None = None
    issuer: str | None = None
    resource: str | None = None
    audiences: tuple[str, ...] = ()
    jwks: str | None = None
    required_scopes: tuple[str, ...] = ()
