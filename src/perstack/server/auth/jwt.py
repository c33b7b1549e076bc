"""Verifies access tokens of an OAuth issuer: JSON Web Tokens signed with one of its keys."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from logging import getLogger
from typing import Any, cast

import jwt
from mcp.server.auth.provider import AccessToken

from perstack.runtime.ports import Clock
from perstack.server.auth.jwks import JwksSource

LOG = getLogger(__name__)

ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "EdDSA"})
"""Asymmetric algorithms only: with a shared secret the verifier could sign tokens itself."""

MAX_CHARACTERS = 16_384
ACCESS_TOKEN_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
LEEWAY_SECONDS = 30
MAX_NAME_CHARACTERS = 1024
MAX_SCOPES = 256
MAX_TIMESTAMP = 253_402_300_799
"""The last second of the year 9999; excludes NaN and infinity too."""


class InvalidTokenError(Exception):
    """Why a token is rejected: for the log only, never for the client, and without the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedClaims:
    """Claims that a token must have.

    Attributes:
        issuer: The exact `iss`.
        audiences: `aud` must contain one of these.
        resource: This server's URL, the resource of accepted tokens.
    """

    issuer: str
    audiences: frozenset[str]
    resource: str


def validate_claims(
    claims: Mapping[str, Any], expected: ExpectedClaims, now_seconds: float
) -> AccessToken:
    """Subject, scopes and expiry of a token, without the token itself.

    Raises:
        InvalidTokenError: Wrong issuer or audience, expired, not valid yet, or without subject.
    """
    if claims.get("iss") != expected.issuer:
        raise InvalidTokenError("it is from another issuer")
    if not _strings(claims.get("aud")) & expected.audiences:
        raise InvalidTokenError("it is for another audience")
    expires = _read_timestamp(claims, "exp")
    if expires is None:
        raise InvalidTokenError("it never expires")
    if now_seconds >= expires + LEEWAY_SECONDS:
        raise InvalidTokenError("it has expired")
    not_before = _read_timestamp(claims, "nbf")
    if not_before is not None and now_seconds < not_before - LEEWAY_SECONDS:
        raise InvalidTokenError("it is not valid yet")
    subject = _read_name(claims, "sub")
    if subject is None:
        raise InvalidTokenError("it names no subject")
    return AccessToken(
        # Jobs and skills must never see the token.
        token="",
        client_id=_read_name(claims, "client_id") or _read_name(claims, "azp") or subject,
        scopes=sorted(_read_scopes(claims)),
        expires_at=math.ceil(expires) + LEEWAY_SECONDS,
        resource=expected.resource,
        subject=subject,
        claims={"iss": expected.issuer},
    )


def _read_scopes(claims: Mapping[str, Any]) -> set[str]:
    # The standard's `scope`, or `scp` as some issuers write it.
    raw = claims.get("scope", claims.get("scp"))
    scopes = set(raw.split()) if isinstance(raw, str) else _strings(raw)
    if len(scopes) > MAX_SCOPES:
        raise InvalidTokenError("it has too many scopes")
    return scopes


def _strings(value: object) -> set[str]:
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    return {one for one in values if isinstance(one, str)}


def _read_timestamp(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= MAX_TIMESTAMP
    ):
        raise InvalidTokenError(f"its {name} is not a time")
    return value


def _read_name(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME_CHARACTERS else None


class JwtVerifier:
    """Satisfies the SDK's `TokenVerifier`."""

    def __init__(self, keys: JwksSource, expected: ExpectedClaims, clock: Clock) -> None:
        self._keys = keys
        self._expected = expected
        self._clock = clock
        self._jws = jwt.PyJWS(algorithms=sorted(ALGORITHMS))

    async def verify_token(self, token: str) -> AccessToken | None:
        try:
            claims = await self._decode_claims(token)
            return validate_claims(claims, self._expected, self._clock.now_ms() / 1000)
        except InvalidTokenError as error:
            LOG.warning("perstack: a token was refused: %s.", error)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            # The parser's message may contain the token.
            LOG.warning("perstack: a token was refused: %s.", type(error).__name__)
        return None

    async def _decode_claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_CHARACTERS or not token.isascii():
            raise InvalidTokenError("it is too long or not text")
        header = jwt.get_unverified_header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise InvalidTokenError("its signature is of a kind that is not accepted")
        if str(header.get("typ", "jwt")).lower() not in ACCESS_TOKEN_TYPES:
            raise InvalidTokenError("it is not an access token")
        for key in await self._keys.candidates(algorithm, key_id):
            try:
                decoded = self._jws.decode_complete(
                    token,
                    key,
                    algorithms=[key.algorithm_name],
                    options={"verify_signature": True, "enforce_minimum_key_length": True},
                )
            except jwt.InvalidSignatureError:
                continue
            claims = json.loads(decoded["payload"])
            if not isinstance(claims, dict):
                raise InvalidTokenError("it claims nothing")
            return cast("dict[str, Any]", claims)
        raise InvalidTokenError("no known key has signed it")
