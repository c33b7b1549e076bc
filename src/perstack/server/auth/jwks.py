"""The public keys of an OAuth issuer: JWK sets and PEM files, from a file or a URL."""

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import anyio
import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
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


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key with one algorithm that it may be used for."""

    key_id: str | None
    algorithm: str
    key: jwt.PyJWK


@dataclass(frozen=True, slots=True)
class JwkSet:
    """The keys of an issuer at one moment."""

    keys: tuple[SigningKey, ...] = ()

    def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        """The keys that may have signed a token with this header; a key without id matches any."""
        return tuple(
            key
            for key in self.keys
            if key.algorithm == algorithm
            and (key_id is None or key.key_id is None or key.key_id == key_id)
        )


def parse_keys(content: bytes) -> JwkSet:
    """The keys of a JWK set or of a PEM file with public keys or certificates.

    Keys of other types and for other uses are left out.

    Raises:
        ConfigError: It is neither, it contains a private key, or no usable one.
    """
    try:
        text = content.decode("utf-8")
        keys = _parse_pem(text) if "-----BEGIN" in text else _parse_jwk_set(json.loads(text))
    except ConfigError:
        raise
    except (ValueError, TypeError, RecursionError, jwt.PyJWTError) as error:
        raise ConfigError("it is neither a JWK set nor a PEM file with public keys.") from error
    if not keys:
        kinds = "RSA (2048 bits or more), P-256 or Ed25519"
        raise ConfigError(f"it has no key for signatures of a kind that is accepted: {kinds}.")
    return JwkSet(tuple(keys))


def _parse_jwk_set(document: Any) -> list[SigningKey]:
    raw_keys: Any = cast("Mapping[str, Any]", document)["keys"] if _is_object(document) else None
    if not isinstance(raw_keys, list) or len(cast("Sequence[object]", raw_keys)) > MAX_KEYS:
        raise ValueError("a JWK set has a list of keys")
    return [
        key for one in cast("list[object]", raw_keys) if _is_object(one) for key in _parse_jwk(one)
    ]


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _parse_jwk(jwk: Any) -> list[SigningKey]:
    table = cast("dict[str, Any]", jwk)
    if PRIVATE_MEMBERS & table.keys():
        raise ConfigError("it holds a private or secret key.", hint="Give the public keys only.")
    if table.get("use", "sig") != "sig" or "verify" not in table.get("key_ops", ["verify"]):
        return []
    key_id = table.get("kid")
    kind = (str(table.get("kty")), table.get("crv") if table.get("kty") != "RSA" else None)
    keys: list[SigningKey] = []
    for algorithm in ALGORITHMS_BY_KEY_TYPE.get(kind, ()):
        if table.get("alg", algorithm) == algorithm:
            key = jwt.PyJWK(table, algorithm)
            if key.Algorithm.check_key_length(key.key) is None:
                name = key_id if isinstance(key_id, str) else None
                keys.append(SigningKey(name, algorithm, key))
    return keys


def _parse_pem(text: str) -> list[SigningKey]:
    keys: list[SigningKey] = []
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

    async def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        """The keys for a token with this header; none if they cannot be fetched."""
        ...


class FileJwksSource:
    """Keys in a JWK set or PEM file, which is read again when it changes.

    Raises:
        ConfigError: It cannot be read or is invalid.
    """

    def __init__(self, path: Path) -> None:
        self._file = ReloadingFile(path, parse_keys)
        self._file.open()

    async def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        return (self._file.current() or JwkSet()).candidates(algorithm, key_id)


class UrlJwksSource:
    """A published JWK set: fetched when first needed, cached and refreshed.

    Args:
        url: The URL of the JWK set; https, or loopback.
        clock: Decides when to refresh.
        fetch: Fetches it.

    Raises:
        ConfigError: The URL is not secure.
    """

    def __init__(self, url: str, clock: Clock, fetch: Fetch | None = None) -> None:
        require_secure_url(url, "--jwks")
        self._url = url
        self._clock = clock
        self._fetch = fetch or fetch_document
        self._lock = anyio.Lock()
        self._keys = JwkSet()
        self._fetched_at: float | None = None
        self._next_refresh_at = 0.0

    async def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        if self._is_stale():
            await self._refresh()
        keys = self._keys.candidates(algorithm, key_id)
        if not keys:
            await self._refresh()
            keys = self._keys.candidates(algorithm, key_id)
        return keys

    def _is_stale(self) -> bool:
        return self._fetched_at is None or self._now() - self._fetched_at >= REFRESH_SECONDS

    def _now(self) -> float:
        return self._clock.now_ms() / 1000

    async def _refresh(self) -> None:
        async with self._lock:
            if self._now() < self._next_refresh_at:
                return
            try:
                self._keys = parse_keys(await self._fetch(self._url))
                self._fetched_at = self._now()
                self._next_refresh_at = self._now() + UNKNOWN_KEY_RETRY_SECONDS
            except ConfigError as error:
                self._next_refresh_at = self._now() + RETRY_AFTER_FAILURE_SECONDS
                LOG.error("The keys at %s cannot be used: %s", self._url, error)  # noqa: TRY400


def require_secure_url(url: str, option: str) -> None:
    """Refuse a URL whose response could be tampered with.

    Raises:
        ConfigError: It is neither https nor loopback.
    """
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
