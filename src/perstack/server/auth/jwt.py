"""Accepts the tokens of an OAuth issuer: JSON web tokens, signed with one of its keys."""

import json
from logging import getLogger
from typing import Any, cast

import jwt
from mcp.server.auth.provider import AccessToken

from perstack.runtime.ports import Clock
from perstack.server.auth.claims import Expected, accepted
from perstack.server.auth.key_source import KeySource
from perstack.server.auth.refused import TokenRefusedError

LOG = getLogger(__name__)

ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "EdDSA"})
"""Signatures with a private key only: a verifier that knows a secret could be made to sign."""

MAX_CHARACTERS = 16_384
ACCESS_TOKEN_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})


class JwtVerifier:
    """Satisfies the SDK's `TokenVerifier`.

    Args:
        keys: Of the issuer.
        expected: What a token must claim.
        clock: Says whether a token has expired.
    """

    def __init__(self, keys: KeySource, expected: Expected, clock: Clock) -> None:
        self._keys = keys
        self._expected = expected
        self._clock = clock
        self._signatures = jwt.PyJWS(algorithms=sorted(ALGORITHMS))

    async def verify_token(self, token: str) -> AccessToken | None:
        """What is known of whoever sent this token; `None` if it is not accepted."""
        try:
            claims = await self._claims(token)
            return accepted(claims, self._expected, self._clock.now_ms() / 1000)
        except TokenRefusedError as error:
            LOG.warning("perstack: a token was refused: %s.", error)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            # What a forged token does to a parser tells nothing that should be told.
            LOG.warning("perstack: a token was refused: %s.", type(error).__name__)
        return None

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_CHARACTERS or not token.isascii():
            raise TokenRefusedError("it is too long or not text")
        header = jwt.get_unverified_header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise TokenRefusedError("its signature is of a kind that is not accepted")
        if str(header.get("typ", "jwt")).lower() not in ACCESS_TOKEN_TYPES:
            raise TokenRefusedError("it is not an access token")
        for candidate in await self._keys.candidates(algorithm, key_id):
            payload = self._payload(token, candidate.key)
            if payload is not None:
                claims = json.loads(payload)
                if not isinstance(claims, dict):
                    raise TokenRefusedError("it claims nothing")
                return cast("dict[str, Any]", claims)
        raise TokenRefusedError("no known key has signed it")

    def _payload(self, token: str, key: jwt.PyJWK) -> bytes | None:
        try:
            checked = self._signatures.decode_complete(
                token,
                key,
                algorithms=[key.algorithm_name],
                options={"verify_signature": True, "enforce_minimum_key_length": True},
            )
        except jwt.InvalidSignatureError:
            return None
        return cast("bytes", checked["payload"])
