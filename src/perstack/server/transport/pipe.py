"""The stdio transport: one JSON-RPC message a line, nothing else on stdout, nothing that blocks.

The SDK's own transport reads and writes in worker threads, which neither a signal nor a client that
stopped reading can interrupt. Here the event loop waits for the descriptors itself, so a server can
end at any moment, and a line that is no message costs an answer and not the connection.
"""

import logging
import os
import select
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCRequest, JSONRPCResponse

from perstack.server.transport.lines import encoded, parsed, refusal, split_lines

LOG = logging.getLogger(__name__)

READ_BYTES = 65_536
NEVER_BLOCKS_BYTES = select.PIPE_BUF
LAST_ANSWERS_SECONDS = 0.25

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]
BeforeCall = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Wire:
    """The descriptors over which the protocol runs."""

    incoming: int
    outgoing: int


@contextmanager
def claimed_stdio() -> Generator[Wire]:
    """Keep stdin and stdout for the protocol.

    Meanwhile whatever else reads stdin finds it empty, and whatever else writes to stdout, a print
    in some library or a child process, lands on stderr.
    """
    wire = Wire(incoming=os.dup(0), outgoing=os.dup(1))
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    try:
        yield wire
    finally:
        with suppress(OSError, ValueError):
            # What was printed meanwhile may still be in the buffer, and must not go out now.
            sys.stdout.flush()
        os.dup2(wire.incoming, 0)
        os.dup2(wire.outgoing, 1)
        os.close(wire.incoming)
        os.close(wire.outgoing)


@asynccontextmanager
async def messages_over(
    wire: Wire, before_call: BeforeCall
) -> AsyncGenerator[tuple[Incoming, Outgoing]]:
    """The streams between which an MCP server runs. Reading ends when the client closes.

    Args:
        wire: Where the client is.
        before_call: Awaited before the server learns of a `tools/call`.
    """
    to_server, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    pipe = _Pipe(wire, before_call)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pipe.read, to_server, outgoing.clone())
        tasks.start_soon(pipe.write, from_server)
        try:
            yield incoming, outgoing
        finally:
            incoming.close()
            outgoing.close()
            tasks.cancel_scope.cancel()


@dataclass(slots=True)
class _Pipe:
    wire: Wire
    before_call: BeforeCall
    is_read_by_client: bool = True
    unanswered: int = 0
    all_answered: anyio.Event = field(default_factory=anyio.Event)

    async def read(
        self, to_server: MemoryObjectSendStream[SessionMessage | Exception], answers: Outgoing
    ) -> None:
        with to_server, answers, suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for line in split_lines(_chunks(self.wire.incoming)):
                message = parsed(line)
                if message is None:
                    await answers.send(SessionMessage(refusal(line)))
                    continue
                if isinstance(message, JSONRPCRequest):
                    self.unanswered += 1
                    if message.method == "tools/call":
                        await self.before_call()
                await to_server.send(SessionMessage(message))
            await self._answer_the_last()

    async def write(self, from_server: MemoryObjectReceiveStream[SessionMessage]) -> None:
        with from_server:
            async for item in from_server:
                message = item.message
                if self.is_read_by_client:
                    await self._send(encoded(message))
                if isinstance(message, JSONRPCResponse | JSONRPCError):
                    self.unanswered -= 1
                    if self.unanswered <= 0:
                        self.all_answered.set()

    async def _answer_the_last(self) -> None:
        # `printf '…' | perstack serve` closes its end before the answers are there.
        if self.unanswered > 0:
            self.all_answered = anyio.Event()
            with anyio.move_on_after(LAST_ANSWERS_SECONDS):
                await self.all_answered.wait()

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                if not _is_ready(self.wire.outgoing, select.POLLOUT):
                    await anyio.wait_writable(self.wire.outgoing)
                view = view[os.write(self.wire.outgoing, view[:NEVER_BLOCKS_BYTES]) :]
        except OSError as error:
            # That the client is gone for good, stdin will tell.
            LOG.debug("The client does not read any more: %s", error)
            self.is_read_by_client = False


async def _chunks(descriptor: int) -> AsyncGenerator[bytes]:
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
