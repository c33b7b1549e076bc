"""`perstack serve` over stdin and stdout."""

import logging
import os
import select
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import (
    INTERNAL_ERROR,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)

from perstack.json_lines import (
    BLANK,
    decode_message,
    encode_message,
    parse_json,
    split_lines,
)
from perstack.server.bootstrap import ServerOptions, create_runtime
from perstack.server.transports.batches import PendingBatches, encode_batch, parse_batch
from perstack.server.transports.jsonrpc_errors import invalid_message_error, jsonrpc_error
from perstack.server.transports.shutdown import wait_for_signal
from perstack.settings import Settings
from perstack.telemetry.propagation import attach_environment_context

LOG = logging.getLogger(__name__)
MAX_LINE_BYTES = 16 * 1024 * 1024
READ_BYTES = 65_536
ATOMIC_WRITE_BYTES = select.PIPE_BUF
DRAIN_SECONDS = 0.25
SHUTDOWN_SECONDS = 1.5

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]
BeforeCall = Callable[[], Awaitable[None]]


def encode_or_error(message: JSONRPCMessage) -> bytes:
    """The line for a message; if it cannot be encoded, the line for an error in its place."""
    try:
        return encode_message(message)
    except ValueError:
        LOG.exception("A message could not be written")
        request_id = message.id if isinstance(message, JSONRPCResponse | JSONRPCError) else None
        return encode_message(
            jsonrpc_error(request_id, INTERNAL_ERROR, "The answer could not be written")
        )


@contextmanager
def redirected_stdio() -> Generator[tuple[int, int]]:
    """Reserve stdin and stdout for the protocol; yields their file descriptors.

    Meanwhile any other reader finds stdin empty, and what libraries and child processes print goes
    to stderr.
    """
    stdin, stdout = os.dup(0), os.dup(1)
    null_device = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_device, 0)
    os.close(null_device)
    os.dup2(2, 1)
    try:
        yield stdin, stdout
    finally:
        with suppress(OSError, ValueError):
            # Buffered prints still belong on stderr.
            sys.stdout.flush()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.close(stdin)
        os.close(stdout)


@asynccontextmanager
async def open_message_streams(
    stdin: int, stdout: int, before_call: BeforeCall
) -> AsyncGenerator[tuple[Incoming, Outgoing]]:
    """The streams of an MCP server; reading ends when the client closes stdin.

    `before_call` is awaited before the server receives a `tools/call`.
    """
    to_server, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    stream = _StdioStream(stdin, stdout, before_call)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.read, to_server, outgoing.clone())
        tasks.start_soon(stream.write, from_server)
        with incoming, outgoing:
            yield incoming, outgoing
        tasks.cancel_scope.cancel()


@dataclass(slots=True)
class _StdioStream:
    stdin: int
    stdout: int
    before_call: BeforeCall
    is_client_reading: bool = True
    pending_requests: int = 0
    pending_batches: PendingBatches = field(default_factory=PendingBatches)
    protocol_version: str | None = None
    writing: anyio.Lock = field(default_factory=anyio.Lock)
    all_answered_event: anyio.Event = field(default_factory=anyio.Event)

    async def read(
        self, to_server: MemoryObjectSendStream[SessionMessage | Exception], answers: Outgoing
    ) -> None:
        with to_server, answers, suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            chunks = _read_chunks(self.stdin)
            async for line in split_lines(chunks, MAX_LINE_BYTES, too_long="cut"):
                content = line.strip(BLANK)
                if not content:
                    continue
                messages, error = await self._parse(content)
                if error is not None:
                    await answers.send(SessionMessage(error))
                for message in messages:
                    await self._forward(message, to_server)
            await self._drain()

    async def _parse(self, line: bytes) -> tuple[Sequence[JSONRPCMessage], JSONRPCError | None]:
        """The messages of a line, and the error if it is refused."""
        if not line.startswith(b"["):
            message = decode_message(line)
            return ((), invalid_message_error(line)) if message is None else ((message,), None)
        batch = parse_batch(parse_json(line), self.protocol_version)
        if batch is None:
            return (), invalid_message_error(line)
        if isinstance(batch, JSONRPCError):
            return (), batch
        await self._send_batch(self.pending_batches.begin(batch))
        return batch.messages, None

    async def _forward(
        self,
        message: JSONRPCMessage,
        to_server: MemoryObjectSendStream[SessionMessage | Exception],
    ) -> None:
        if isinstance(message, JSONRPCRequest):
            self.pending_requests += 1
            if message.method == "tools/call":
                await self.before_call()
        elif isinstance(message, JSONRPCNotification) and message.params is not None:
            # The only notification with a request id is a cancellation: no answer will follow.
            cancelled: object = message.params.get("requestId")
            if isinstance(cancelled, str | int):
                await self._send_batch(self.pending_batches.settle(cancelled))
        await to_server.send(SessionMessage(message))

    async def write(self, from_server: MemoryObjectReceiveStream[SessionMessage]) -> None:
        with from_server:
            async for item in from_server:
                message = item.message
                if isinstance(message, JSONRPCResponse):
                    self.protocol_version = message.result.get(
                        "protocolVersion", self.protocol_version
                    )
                if not self.pending_batches.has(message):
                    await self._send(encode_or_error(message))
                elif isinstance(message, JSONRPCResponse | JSONRPCError):
                    await self._send_batch(self.pending_batches.settle(message.id, message))
                if isinstance(message, JSONRPCResponse | JSONRPCError):
                    self.pending_requests -= 1
                    if self.pending_requests <= 0:
                        self.all_answered_event.set()

    async def _send_batch(self, answers: Sequence[JSONRPCMessage]) -> None:
        if answers:
            await self._send(encode_batch([encode_or_error(answer) for answer in answers]))

    async def _drain(self) -> None:
        # `printf '…' | perstack serve` closes stdin before the answers are written.
        if self.pending_requests > 0:
            self.all_answered_event = anyio.Event()
            with anyio.move_on_after(DRAIN_SECONDS):
                await self.all_answered_event.wait()

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        async with self.writing:
            try:
                while view and self.is_client_reading:
                    if not _is_ready(self.stdout, select.POLLOUT):
                        await anyio.wait_writable(self.stdout)
                    view = view[os.write(self.stdout, view[:ATOMIC_WRITE_BYTES]) :]
            except OSError as error:
                # The end of stdin decides whether the client has gone.
                LOG.debug("The client does not read any more: %s", error)
                self.is_client_reading = False


async def _read_chunks(descriptor: int) -> AsyncGenerator[bytes]:
    while True:
        if not _is_ready(descriptor, select.POLLIN):
            await anyio.wait_readable(descriptor)
        try:
            data = os.read(descriptor, READ_BYTES)
        except OSError as error:
            LOG.debug("stdin cannot be read any more: %s", error)
            return
        if not data:
            return
        yield data
        await anyio.lowlevel.checkpoint()


def _is_ready(descriptor: int, interest: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, interest)
    return bool(poller.poll(0))


async def serve_stdio(settings: Settings, server_options: ServerOptions) -> None:
    """Serve one client until it closes stdin, or until SIGTERM or SIGINT.

    Jobs that still run at the end are stopped, resumable.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
    """
    environment = os.environ if settings.environment is None else settings.environment
    with redirected_stdio() as (stdin, stdout), attach_environment_context(environment):
        runtime = create_runtime(replace(settings, transport="stdio"), server_options)
        server, tenants = runtime.server, runtime.tenants
        serving = anyio.CancelScope()

        async def cancel_on_signal() -> None:
            await wait_for_signal()
            await runtime.notifications.close()
            serving.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_on_signal)
            tasks.start_soon(tenants.run, runtime.activity)
            tasks.start_soon(tenants.open_when_idle, runtime.activity)
            tasks.start_soon(runtime.definitions_watcher.watch)
            with serving:
                async with open_message_streams(stdin, stdout, tenants.open) as (read, write):
                    await server.run(read, write, server.create_initialization_options())
            await tenants.close(SHUTDOWN_SECONDS)
            tasks.cancel_scope.cancel()
