"""Whether what a signed token claims is meant for this server, now; and for whom it speaks."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from mcp.server.auth.provider import AccessToken

from perstack.server.auth.refused import TokenRefusedError

LEEWAY_SECONDS = 30
MAX_NAME = 1024
MAX_SCOPES = 256
LATEST = 253_402_300_799
"""The last second of the year 9999; not a number and infinity are no times either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a token must claim.

    Attributes:
        issuer: Who must have issued it, compared letter by letter.
        audiences: For one of these it must have been issued.
        resource: This server's own address, under which an accepted token is known from then on.
    """

    issuer: str
    audiences: frozenset[str]
    resource: str


def accepted(claims: Mapping[str, Any], expected: Expected, now_seconds: float) -> AccessToken:
    """What the server keeps of a token: whom it speaks for and what it allows, not itself.

    Raises:
        TokenRefusedError: It is for someone else, too old or too new, or names no subject.
    """
    if claims.get("iss") != expected.issuer:
        raise TokenRefusedError("it is from another issuer")
    if not _texts(claims.get("aud")) & expected.audiences:
        raise TokenRefusedError("it is for another audience")
    expires = _moment(claims, "exp")
    if expires is None:
        raise TokenRefusedError("it never expires")
    if now_seconds >= expires + LEEWAY_SECONDS:
        raise TokenRefusedError("it has expired")
    begins = _moment(claims, "nbf")
    if begins is not None and now_seconds < begins - LEEWAY_SECONDS:
        raise TokenRefusedError("it is not valid yet")
    subject = _name(claims, "sub")
    if subject is None:
        raise TokenRefusedError("it names no subject")
    return AccessToken(
        # Whatever carries this on, to a job or a skill, does not carry the token.
        token="",
        client_id=_name(claims, "client_id") or _name(claims, "azp") or subject,
        scopes=sorted(_scopes(claims)),
        expires_at=math.ceil(expires) + LEEWAY_SECONDS,
        resource=expected.resource,
        subject=subject,
        claims={"iss": expected.issuer},
    )


def _scopes(claims: Mapping[str, Any]) -> set[str]:
    """Those of `scope` as the standard has it, or of `scp` as some issuers write it."""
    given = claims.get("scope", claims.get("scp"))
    scopes = set(given.split()) if isinstance(given, str) else _texts(given)
    if len(scopes) > MAX_SCOPES:
        raise TokenRefusedError("it has too many scopes")
    return scopes


def _texts(value: object) -> set[str]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return {one for one in values if isinstance(one, str)}


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise TokenRefusedError(f"its {name} is not a time")
    return value


def _name(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME else None
