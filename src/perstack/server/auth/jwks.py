"""The public keys of an OAuth issuer: JWK sets and PEM files, from a file or a URL."""

import json
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import anyio
import httpx2
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt import PyJWK, PyJWTError
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from perstack.errors import ConfigError
from perstack.runtime.ports import Clock
from perstack.server.auth.reloading_file import ReloadingFile

LOG = getLogger(__name__)

FETCH_SECONDS = 5.0
MAX_BYTES = 512 * 1024
REFRESH_SECONDS = 3600
"""For this long a key that the issuer has withdrawn may still be accepted."""

UNKNOWN_KEY_RETRY_SECONDS = 60
"""Minimum interval between refreshes caused by tokens with unknown key ids."""

RETRY_AFTER_FAILURE_SECONDS = 10
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Fetch = Callable[[str], Awaitable[bytes]]
"""Fetches the document at a URL; raises `ConfigError` if it cannot."""

ALGORITHMS_BY_KEY_TYPE = {
    ("RSA", None): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""The algorithms of a key type and curve, none of them symmetric."""

MAX_KEYS = 64
PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
PEM_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


def select_keys(keys: Sequence[PyJWK], algorithm: str, key_id: str | None) -> list[PyJWK]:
    """The keys that may have signed a token with this header; a key without id matches any."""
    return [
        key
        for key in keys
        if key.algorithm_name == algorithm
        and (key_id is None or key.key_id is None or key.key_id == key_id)
    ]


def parse_keys(content: bytes) -> list[PyJWK]:
    """The keys of a JWK set or of a PEM file with public keys or certificates.

    Keys of other types and for other uses are left out; one for several algorithms is repeated.

    Raises:
        ConfigError: It is neither, it contains a private key, or no usable one.
    """
    try:
        text = content.decode("utf-8")
        keys = _parse_pem(text) if "-----BEGIN" in text else _parse_jwk_set(json.loads(text))
    except ConfigError:
        raise
    except (ValueError, TypeError, RecursionError, PyJWTError) as error:
        raise ConfigError("it is neither a JWK set nor a PEM file with public keys.") from error
    if not keys:
        kinds = "RSA (2048 bits or more), P-256 or Ed25519"
        raise ConfigError(f"it has no key for signatures of a kind that is accepted: {kinds}.")
    return keys


def _parse_jwk_set(document: object) -> list[PyJWK]:
    jwks = cast("dict[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(jwks, list) or len(cast("list[object]", jwks)) > MAX_KEYS:
        raise ValueError("a JWK set has a list of keys")
    return [
        key
        for jwk in cast("list[object]", jwks)
        if isinstance(jwk, dict)
        for key in _parse_jwk(cast("dict[str, Any]", jwk))
    ]


def _parse_jwk(jwk: dict[str, Any]) -> list[PyJWK]:
    if PRIVATE_MEMBERS & jwk.keys():
        raise ConfigError("it holds a private or secret key.", hint="Give the public keys only.")
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return []
    if not isinstance(jwk.get("kid"), str):
        jwk["kid"] = None
    kind = (str(jwk.get("kty")), jwk.get("crv") if jwk.get("kty") != "RSA" else None)
    keys = [
        PyJWK(jwk, algorithm)
        for algorithm in ALGORITHMS_BY_KEY_TYPE.get(kind, ())
        if jwk.get("alg", algorithm) == algorithm
    ]
    return [key for key in keys if key.Algorithm.check_key_length(key.key) is None]


def _parse_pem(text: str) -> list[PyJWK]:
    keys: list[PyJWK] = []
    for block in PEM_BLOCK.finditer(text):
        if "PRIVATE" in block[1]:
            raise ConfigError("it holds a private key.", hint="Give the public key only.")
        content = block[0].encode()
        key = (
            load_pem_x509_certificate(content).public_key()
            if block[1] == "CERTIFICATE"
            else load_pem_public_key(content)
        )
        match key:
            case RSAPublicKey():
                keys += _parse_jwk(RSAAlgorithm.to_jwk(key, as_dict=True))
            case EllipticCurvePublicKey():
                keys += _parse_jwk(ECAlgorithm.to_jwk(key, as_dict=True))
            case Ed25519PublicKey():
                keys += _parse_jwk(OKPAlgorithm.to_jwk(key, as_dict=True))
            case _:
                pass
    return keys


class JwksSource(Protocol):
    """Finds the keys that may have signed a token."""

    async def candidates(self, algorithm: str, key_id: str | None) -> list[PyJWK]:
        """The keys for a token with this header; none if they cannot be fetched."""
        ...


class FileJwksSource:
    """Keys in a JWK set or PEM file, which is read again when it changes.

    Raises:
        ConfigError: It cannot be read or is invalid.
    """

    def __init__(self, path: Path) -> None:
        self._file = ReloadingFile(path, parse_keys)

    async def candidates(self, algorithm: str, key_id: str | None) -> list[PyJWK]:
        return select_keys(self._file.current() or [], algorithm, key_id)


class UrlJwksSource:
    """A published JWK set: fetched when first needed, cached and refreshed.

    Raises:
        ConfigError: The URL is neither https nor loopback.
    """

    def __init__(self, url: str, clock: Clock, fetch: Fetch | None = None) -> None:
        require_secure_url(url, "--jwks")
        self._url = url
        self._clock = clock
        self._fetch = fetch or fetch_document
        self._lock = anyio.Lock()
        self._keys: list[PyJWK] = []
        self._expires_at = -math.inf
        self._next_refresh_at = 0.0

    async def candidates(self, algorithm: str, key_id: str | None) -> list[PyJWK]:
        is_stale = self._now() >= self._expires_at
        if is_stale or not select_keys(self._keys, algorithm, key_id):
            await self._refresh()
        return select_keys(self._keys, algorithm, key_id)

    def _now(self) -> float:
        return self._clock.now_ms() / 1000

    async def _refresh(self) -> None:
        async with self._lock:
            if self._now() < self._next_refresh_at:
                return
            try:
                self._keys = parse_keys(await self._fetch(self._url))
                self._expires_at = self._now() + REFRESH_SECONDS
                self._next_refresh_at = self._now() + UNKNOWN_KEY_RETRY_SECONDS
            except ConfigError as error:
                self._next_refresh_at = self._now() + RETRY_AFTER_FAILURE_SECONDS
                LOG.error("The keys at %s cannot be used: %s", self._url, error)  # noqa: TRY400


def require_secure_url(url: str, option: str) -> None:
    """Refuse a URL whose response could be tampered with: neither https nor loopback."""
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ConfigError(
            f"{option} {url!r} is not an https:// address.",
            hint="Only an address of this machine may be http://.",
        )


async def fetch_document(url: str) -> bytes:
    """Fetch a small document, with a timeout and without redirects.

    Raises:
        ConfigError: It cannot be fetched.
    """
    try:
        with anyio.fail_after(FETCH_SECONDS):
            async with (
                httpx2.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False) as client,
                client.stream("GET", url, headers={"accept": "application/json"}) as response,
            ):
                if not response.is_success:
                    raise ConfigError(f"the answer is HTTP {response.status_code}.")
                content = bytearray()
                async for piece in response.aiter_bytes():
                    content += piece
                    if len(content) > MAX_BYTES:
                        raise ConfigError("the answer is too large.")
                return bytes(content)
    except TimeoutError as error:
        raise ConfigError(f"there was no answer within {FETCH_SECONDS:.0f} seconds.") from error
    except httpx2.HTTPError as error:
        raise ConfigError(f"{type(error).__name__}.") from error
