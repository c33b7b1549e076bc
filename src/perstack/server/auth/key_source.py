"""Where the keys of an issuer come from: a file, or the issuer itself."""

from collections.abc import Awaitable, Callable
from logging import getLogger
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import anyio
import httpx2

from perstack.errors import ConfigError
from perstack.runtime.ports import Clock
from perstack.server.auth.changing_file import ChangingFile
from perstack.server.auth.keys import Keys, SigningKey, parse_keys

LOG = getLogger(__name__)

FETCH_SECONDS = 5.0
MAX_BYTES = 512 * 1024
REFRESH_SECONDS = 3600
"""So long a key that the issuer has withdrawn may still be accepted."""

RETRY_SECONDS = 60
"""So seldom anybody can make the server ask the issuer, by sending tokens with unknown keys."""

RETRY_AFTER_FAILURE_SECONDS = 10
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Fetch = Callable[[str], Awaitable[bytes]]
"""Gets a document. Raises `ConfigError` if that is not possible."""


class KeySource(Protocol):
    """Finds the keys that a token can have been signed with."""

    async def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        """The keys for a token with this header; none if there are none, or none can be had."""
        ...


class FileKeys:
    """Keys in a file, read again when it changes.

    Args:
        path: A JWK set or PEM.

    Raises:
        ConfigError: It cannot be read or accepted.
    """

    def __init__(self, path: Path) -> None:
        self._file = ChangingFile(path, parse_keys)
        self._file.open()

    async def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        """The keys for a token with this header."""
        return (self._file.present() or Keys()).candidates(algorithm, key_id)


class UrlKeys:
    """Keys that an issuer publishes: fetched when first needed, kept, and renewed in time.

    Args:
        url: Of a JWK set; https, or this machine.
        clock: Says when to ask again.
        fetch: Gets it.

    Raises:
        ConfigError: The URL is not one that keys can be trusted to come from.
    """

    def __init__(self, url: str, clock: Clock, fetch: Fetch | None = None) -> None:
        check_url(url, "--jwks")
        self._url = url
        self._clock = clock
        self._fetch = fetch or fetch_document
        self._lock = anyio.Lock()
        self._keys = Keys()
        self._fetched_at: float | None = None
        self._next_at = 0.0

    async def candidates(self, algorithm: str, key_id: str | None) -> tuple[SigningKey, ...]:
        """The keys for a token with this header; the issuer is asked if there are none."""
        if self._is_old():
            await self._renew()
        found = self._keys.candidates(algorithm, key_id)
        if not found:
            await self._renew()
            found = self._keys.candidates(algorithm, key_id)
        return found

    def _is_old(self) -> bool:
        return self._fetched_at is None or self._now() - self._fetched_at >= REFRESH_SECONDS

    def _now(self) -> float:
        return self._clock.now_ms() / 1000

    async def _renew(self) -> None:
        async with self._lock:
            if self._now() < self._next_at:
                return
            try:
                self._keys = parse_keys(await self._fetch(self._url))
                self._fetched_at = self._now()
                self._next_at = self._now() + RETRY_SECONDS
            except ConfigError as error:
                self._next_at = self._now() + RETRY_AFTER_FAILURE_SECONDS
                LOG.error("The keys at %s cannot be used: %s", self._url, error)  # noqa: TRY400


def check_url(url: str, option: str) -> None:
    """Refuse an address whose answer somebody on the way could have changed.

    Raises:
        ConfigError: It is neither https nor on this machine.
    """
    parts = urlsplit(url)
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or is_local):
        raise ConfigError(
            f"{option} {url!r} is not an https:// address.",
            hint="Only an address of this machine may be http://.",
        )


async def fetch_document(url: str) -> bytes:
    """Get a small document, within seconds and without following it elsewhere.

    Raises:
        ConfigError: It cannot be had.
    """
    try:
        with anyio.fail_after(FETCH_SECONDS):
            async with (
                httpx2.AsyncClient(timeout=FETCH_SECONDS, follow_redirects=False) as client,
                client.stream("GET", url, headers={"accept": "application/json"}) as answer,
            ):
                if not answer.is_success:
                    raise ConfigError(f"the answer is HTTP {answer.status_code}.")
                content = bytearray()
                async for piece in answer.aiter_bytes():
                    content += piece
                    if len(content) > MAX_BYTES:
                        raise ConfigError("the answer is too large.")
                return bytes(content)
    except TimeoutError as error:
        raise ConfigError(f"there was no answer within {FETCH_SECONDS:.0f} seconds.") from error
    except httpx2.HTTPError as error:
        raise ConfigError(f"{type(error).__name__}.") from error
