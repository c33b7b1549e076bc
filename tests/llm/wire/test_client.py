"""The HTTP client, against servers of which each byte is decided here."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from perstack.llm.wire.client import HttpClient
from perstack.llm.wire.format import ConnectionFailedError, ErrorStatusError

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def server(*answers: bytes) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server that gives these answers, one a request, and then closes the connection."""
    requests: list[bytes] = []
    remaining = list(answers)

    async def serve(stream: SocketStream) -> None:
        async with stream:
            requests.append(await stream.receive(65_536))
            await stream.send(remaining.pop(0))

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django
        yield f"http://127.0.0.1:{port}/v1", requests
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def opened(**environment: str) -> AsyncGenerator[HttpClient]:
    client = HttpClient(environment)
    try:
        yield client
    finally:
        await client.aclose()


async def post(client: HttpClient, url: str) -> bytes:
    async with client.send(url, {"X-Team": "blue"}, b"{}") as response:
        return b"".join([piece async for piece in response.pieces])


def answer(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_a_body_arrives_and_the_headers_are_sent() -> None:
    async with server(answer("200 OK", b"hello")) as (url, requests), opened() as client:
        assert await post(client, url) == b"hello"
    head = requests[0].lower()
    assert b"x-team: blue" in head
    assert b"content-type: application/json" in head


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"",
    ],
)
async def test_a_body_that_is_cut_off_is_no_body(broken: bytes) -> None:
    async with server(broken) as (url, _), opened() as client:
        with pytest.raises(ConnectionFailedError) as caught:
            await post(client, url)
    assert caught.value.is_lost
    assert caught.value.is_retryable


async def test_an_error_status_comes_with_its_headers_and_body() -> None:
    reply = answer("429 Slow", b'{"error": "slow"}', "Retry-After: 7\r\n")
    async with server(reply) as (url, _), opened() as client:
        with pytest.raises(ErrorStatusError) as caught:
            await post(client, url)
    response = caught.value.response
    assert (response.status, response.headers["retry-after"]) == (429, "7")
    assert response.body == '{"error": "slow"}'


async def test_a_redirect_is_not_followed() -> None:
    reply = answer("307 Elsewhere", b"", "Location: http://127.0.0.1:9/\r\n")
    async with server(reply) as (url, requests), opened() as client:
        with pytest.raises(ErrorStatusError, match="307"):
            await post(client, url)
    assert len(requests) == 1


async def test_a_port_without_a_server_is_named_as_such() -> None:
    async with server() as (url, _):
        pass
    async with opened() as client:
        with pytest.raises(ConnectionFailedError, match="connection refused") as caught:
            await post(client, url)
    assert not caught.value.is_lost


@pytest.mark.parametrize(
    ("no_proxy", "is_direct"),
    [("", False), ("other.example", False), ("127.0.0.1", True), ("*", True), ("1, .0.0.1", True)],
)
async def test_the_proxy_of_the_environment_is_used_unless_the_host_is_excepted(
    no_proxy: str, is_direct: bool
) -> None:
    async with (
        server(answer("200 OK", b"direct")) as (url, _),
        server(answer("200 OK", b"by proxy")) as (proxy, _),
        opened(HTTP_PROXY=proxy.removesuffix("/v1"), NO_PROXY=no_proxy) as client,
    ):
        assert await post(client, url) == (b"direct" if is_direct else b"by proxy")


async def test_a_proxy_that_refuses_is_named() -> None:
    async with (
        server(answer("403 No", b"")) as (proxy, _),
        opened(HTTPS_PROXY=proxy.removesuffix("/v1")) as client,
    ):
        with pytest.raises(ConnectionFailedError, match="the proxy answered 403"):
            await post(client, "https://a.example/v1")


async def test_a_server_without_tls_is_no_https_server() -> None:
    async with server(answer("200 OK", b"")) as (url, _), opened() as client:
        with pytest.raises(ConnectionFailedError, match="no TLS connection"):
            await post(client, url.replace("http", "https"))
