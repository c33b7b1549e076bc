"""The HTTP client of the direct adapters: pooled connections, and nothing but the given address.

The only module that imports aiohttp, which takes a quarter of a second.
"""

import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from perstack.llm.errors import HttpErrorResponse
from perstack.llm.wire.format import ConnectionFailedError, ErrorStatusError, HttpResponse

CONNECT_SECONDS = 30.0
KEEP_ALIVE_SECONDS = 60.0
MAX_ERROR_BYTES = 20_000
CERTIFICATES_VARIABLE = "SSL_CERT_FILE"
_FIRST_UNEXPECTED_STATUS = 300


class HttpClient:
    """Sends requests. Must be closed in the event loop that it was used in.

    Args:
        environment: Has the proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) and the certificates
            (`SSL_CERT_FILE`). The process's own environment is not read.
        proxy: A proxy for every request, in place of those of the environment.
    """

    def __init__(self, environment: Mapping[str, str], proxy: str | None = None) -> None:
        self._environment = environment
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None
        self._ssl_context: ssl.SSLContext | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def send(
        self, url: str, headers: Mapping[str, str], body: bytes | None, *, method: str = "POST"
    ) -> AsyncGenerator[HttpResponse]:
        """Send a request, whose body is JSON unless a header says otherwise.

        Redirects are not followed.

        Raises:
            ConnectionFailedError: There was no response, or its body was cut off.
            ErrorStatusError: The response has another status than success.
        """
        is_secure = urlsplit(url).scheme == "https"
        # As it is written, because a signature covers each byte of it.
        address = URL(url, encoded=url.isascii())
        with _translated_errors():
            async with self._open_session().request(
                method,
                address,
                data=body,
                headers={"Content-Type": "application/json", **headers},
                proxy=self._proxy_for(url),
                ssl=self._tls() if is_secure else True,
                allow_redirects=False,
            ) as response:
                if response.status >= _FIRST_UNEXPECTED_STATUS:
                    raise ErrorStatusError(await _read_error(response))
                yield HttpResponse(response.content_type, _pieces(response))

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _proxy_for(self, url: str) -> str | None:
        if self._proxy is not None:
            return self._proxy
        parts = urlsplit(url)
        if _is_direct(parts.hostname or "", parts.port, _variable(self._environment, "no_proxy")):
            return None
        return _variable(self._environment, f"{parts.scheme}_proxy")

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context(
                cafile=self._environment.get(CERTIFICATES_VARIABLE) or None
            )
        return self._ssl_context


def _variable(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(name) or environment.get(name.upper()) or None


def _is_direct(host: str, port: int | None, no_proxy: str | None) -> bool:
    """Whether `NO_PROXY` names a host: itself, a domain above it, or either with the port."""
    for entry in (no_proxy or "").split(","):
        name, _, entry_port = entry.strip().lower().removeprefix("*").partition(":")
        if name == entry_port == "" and "*" in entry:
            return True
        is_named = name and (host == name.lstrip(".") or host.endswith("." + name.lstrip(".")))
        if is_named and entry_port in ("", str(port)):
            return True
    return False


@contextmanager
def _translated_errors() -> Generator[None]:
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as error:
        raise ConnectionFailedError(_certificate_reason(error), is_retryable=False) from error
    except aiohttp.ClientConnectorError as error:
        raise ConnectionFailedError(_os_reason(error.os_error)) from error
    except aiohttp.ServerTimeoutError as error:
        raise ConnectionFailedError("no answer in time") from error
    except aiohttp.ClientHttpProxyError as error:
        raise ConnectionFailedError(f"the proxy answered {error.status}") from error
    except (aiohttp.ClientError, OSError) as error:
        reason = "the connection ended before the answer was complete"
        raise ConnectionFailedError(reason, is_lost=True) from error


def _certificate_reason(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    detail = getattr(cause, "verify_message", None) or type(cause).__name__
    return (
        f"the certificate is not trusted ({detail}). Name the file of its issuer in"
        f" {CERTIFICATES_VARIABLE}"
    )


def _os_reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or 'unknown reason'})"
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error) or "no connection").lower()


async def _read_error(response: aiohttp.ClientResponse) -> HttpErrorResponse:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) >= MAX_ERROR_BYTES:
            break
    text = bytes(body[:MAX_ERROR_BYTES]).decode("utf-8", errors="replace")
    headers = {name.lower(): value for name, value in response.headers.items()}
    return HttpErrorResponse(response.status, headers, text)


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async for piece in response.content.iter_any():
        yield piece
