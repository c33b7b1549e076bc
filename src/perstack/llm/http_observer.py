"""Observes the HTTP exchange of each call, below litellm's client.

litellm turns refused connections, resets and error bodies into exceptions of its own, which do not
reliably carry the host, status, Retry-After and the provider's message.
"""

import os
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import cast

import anyio
import httpx

from perstack.llm.errors import HttpErrorResponse

_FIRST_ERROR_STATUS = 400
_MAX_ERROR_BYTES = 20_000


@dataclass(slots=True)
class HttpExchange:
    """The HTTP exchange of one call.

    Attributes:
        is_anonymous: Credentials are removed from the request.
        preparation_scope: Shields the call until its request goes out, because litellm prepares it
            in a thread that cannot be interrupted and whose result must not be thrown away.
        network_error: Why there was no complete response.
        is_connection_lost: The connection had been established.
    """

    is_anonymous: bool = False
    preparation_scope: anyio.CancelScope = field(
        default_factory=lambda: anyio.CancelScope(shield=True)
    )
    network_error: str | None = None
    is_connection_lost: bool = False
    has_timed_out: bool = False
    has_success_status: bool = False
    error_response: HttpErrorResponse | None = None
    response: httpx.Response | None = None

    async def close(self) -> None:
        """Close the connection if the response was not read completely."""
        if self.response is not None:
            with anyio.CancelScope(shield=True):
                await self.response.aclose()


current_exchange: ContextVar[HttpExchange] = ContextVar("current_exchange")


class NetworkError(Exception):
    """Not one of httpx's errors, because litellm answers some of those with a second request."""


class ObservingTransport(httpx.AsyncBaseTransport):
    """Forwards requests and records their outcome in the current exchange."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        exchange = current_exchange.get()
        exchange.preparation_scope.shield = False
        if exchange.is_anonymous:
            request.headers.pop("authorization", None)
        try:
            response = await self._inner.handle_async_request(request)
        except httpx.TransportError as error:
            raise _record_network_error(exchange, error) from error
        observed = httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_ObservingStream(response, exchange),
            request=request,
            extensions=response.extensions,
        )
        exchange.response = observed
        if response.status_code >= _FIRST_ERROR_STATUS:
            body = await observed.aread()
            text = body[:_MAX_ERROR_BYTES].decode("utf-8", errors="replace")
            exchange.error_response = HttpErrorResponse(
                response.status_code, dict(response.headers), text
            )
        else:
            exchange.has_success_status = True
        return observed

    async def aclose(self) -> None:
        await self._inner.aclose()


class _ObservingStream(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, exchange: HttpExchange) -> None:
        self._response = response
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            stream = cast("httpx.AsyncByteStream", self._response.stream)
            async for piece in stream:
                yield piece
        except httpx.TransportError as error:
            raise _record_network_error(self._exchange, error) from error

    async def aclose(self) -> None:
        await self._response.aclose()


def _record_network_error(exchange: HttpExchange, error: httpx.TransportError) -> NetworkError:
    exchange.has_timed_out = isinstance(error, httpx.TimeoutException)
    exchange.network_error = _describe_network_error(error)
    exchange.is_connection_lost = isinstance(error, httpx.ReadError | httpx.RemoteProtocolError)
    return NetworkError(exchange.network_error)


def _describe_network_error(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ReadError | httpx.RemoteProtocolError):
        return "the connection ended before the answer was complete"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            # The text of the event loop's error has the address instead of the reason.
            return (os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)).lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or "no connection"


def proxy_transport(url: str) -> httpx.AsyncBaseTransport:
    """A transport through an HTTP proxy."""
    return httpx.AsyncHTTPTransport(proxy=url)
