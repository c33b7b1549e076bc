"""HTTP/1.1 on one connection: just what clients of model providers use."""

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import anyio
from anyio.abc import SocketAttribute, SocketStream

from tests.model_server.json_values import JsonObject, as_object

_LARGEST_HEAD = 1 << 20
_RECEIVE_BYTES = 1 << 16


class ClientGoneError(Exception):
    """The client closed the connection, or sent something that is not HTTP."""


@dataclass(frozen=True)
class HttpRequest:
    """A request with its whole body."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def json_object(self) -> JsonObject:
        """The body as a JSON object; empty where it is none."""
        try:
            return as_object(json.loads(self.body))
        except ValueError:
            return {}


class Connection:
    """Reads requests and writes answers; notices while waiting that the client has gone."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._received = bytearray()
        self._raw: socket.socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - a socket, no query
        self._raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def read_request(self) -> HttpRequest:
        """The next request.

        Raises:
            ClientGoneError: The client closed the connection or does not speak HTTP.
        """
        head = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        words = head[0].split(" ")
        if len(words) != 3:
            raise ClientGoneError
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        if headers.get("expect", "").lower() == "100-continue":
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await self._body(headers)
        return HttpRequest(words[0], words[1], headers, body)

    async def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = bytearray()
            while size := int((await self._until(b"\r\n")).split(b";")[0], 16):
                body += (await self._exactly(size + 2))[:-2]
            while await self._until(b"\r\n"):
                pass  # Trailers end with an empty line.
        else:
            body = await self._exactly(int(headers.get("content-length", "0")))
        return _decompressed(bytes(body), headers.get("content-encoding", ""))

    async def _until(self, mark: bytes) -> bytes:
        while (end := self._received.find(mark)) < 0:
            if len(self._received) > _LARGEST_HEAD:
                raise ClientGoneError
            await self._receive()
        return self._take(end, len(mark))

    async def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            await self._receive()
        return self._take(size, 0)

    def _take(self, size: int, then_drop: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[: size + then_drop]
        return taken

    async def _receive(self) -> None:
        try:
            self._received += await self._stream.receive(_RECEIVE_BYTES)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ClientGoneError from None

    async def send(self, data: bytes) -> None:
        """Write bytes.

        Raises:
            ClientGoneError: Nobody reads them any more.
        """
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ClientGoneError from None

    async def send_whole(
        self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Write an answer whose length is known."""
        length = {"content-length": str(len(body))}
        await self.send(head(status, content_type, {**length, **(headers or {})}) + body)

    async def wait(self, waiting: Callable[[], Awaitable[object]]) -> None:
        """Wait for something, and for the client's leaving at the same time.

        Raises:
            ClientGoneError: The client left first.
        """
        is_gone = False

        async def watch() -> None:
            nonlocal is_gone
            try:
                while True:
                    await self._receive()
            except ClientGoneError:
                is_gone = True
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await waiting()
            group.cancel_scope.cancel()
        if is_gone:
            raise ClientGoneError

    def reset_on_close(self) -> None:
        """Make the coming close a TCP reset."""
        self._raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def head(status: int, content_type: str, headers: Mapping[str, str]) -> bytes:
    """Status line and headers of an answer."""
    phrases = {known.value: known.phrase for known in HTTPStatus}
    lines = [f"HTTP/1.1 {status} {phrases.get(status, 'Scripted')}"]
    lines += [
        f"{name}: {value}" for name, value in {"content-type": content_type, **headers}.items()
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Data as one chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _decompressed(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(body)
    return zlib.decompress(body) if encoding == "deflate" else body
