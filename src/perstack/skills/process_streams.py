"""The pipes of a skill server's process as the message streams of the SDK."""

import contextlib
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, JSONRPCRequest

from perstack.json_lines import LineTooLongError, encode_message, parse_json, split_lines
from perstack.skills.message_reader import INCOMPLETE_SECONDS, MessageReader
from perstack.skills.responses import DISCOVER_METHOD, DISCOVER_SECONDS, unanswered_discovery
from perstack.skills.subprocesses import STREAM_END_ERRORS, signal_group

InboundMessage = SessionMessage | Exception
MessageStreams = tuple[MemoryObjectReceiveStream[InboundMessage], "MessageWriter"]
FLUSH_SECONDS = 0.5
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024
READ_BYTES = 64 * 1024


class MessageWriter:
    """The SDK's `WriteStream`, without a task between its sender and the pipe."""

    def __init__(self, write: Callable[[JSONRPCMessage], Awaitable[None]]) -> None:
        self.is_closed = False
        self._write = write

    async def send(self, item: SessionMessage, /) -> None:
        if self.is_closed:
            raise anyio.ClosedResourceError
        await self._write(item.message)

    async def aclose(self) -> None:
        self.is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.is_closed = True


class ProcessStreams:
    """The three pipes of a process as message streams.

    Args:
        process: The server.
        report: Is told each line of stderr, and what stdout has besides messages.
        on_end: Is called when no more messages come or can be sent.
    """

    def __init__(
        self, process: Process, report: Callable[[str], None], on_end: Callable[[], None]
    ) -> None:
        self._process = process
        self._report = report
        self._on_end = on_end
        self._reader = MessageReader(self._report_output)
        self._has_receiver = True
        self._read_stream_writer, self.read_stream = anyio.create_memory_object_stream[
            InboundMessage
        ](0)
        self.write_stream = MessageWriter(self._write)
        self._scopes: list[anyio.CancelScope] = []
        self._discovery: JSONRPCRequest | None = None
        self._discovery_sent = anyio.Event()
        self._stdout_closed = anyio.Event()

    async def run_until_closed(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work on a pipe beyond cancellation: a server whose pipes are full may not end."""
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            await work()

    def close(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def read_stdout(self) -> None:
        """Deliver the messages; without a reader drain them, so that the server can end."""
        try:
            unended = bytearray()
            chunks = self._read_stdout_chunks(unended)
            async for line in split_lines(
                chunks, MAX_MESSAGE_BYTES, too_long="raise", line=unended
            ):
                await self._deliver(self._reader.read_line(line))
        except LineTooLongError:
            self._report(f"(a message of more than {MAX_MESSAGE_BYTES} bytes; the server is ended)")
        finally:
            self._stdout_closed.set()
            self._notify_exit()

    async def _write(self, message: JSONRPCMessage) -> None:
        """Write a message, whole also if the caller is cancelled meanwhile.

        Raises:
            anyio.BrokenResourceError: The server reads no more.
        """
        stdin = self._process.stdin
        self._reader.requests.sent(message)
        if isinstance(message, JSONRPCRequest) and message.method == DISCOVER_METHOD:
            self._discovery = message
            self._discovery_sent.set()
        try:
            if stdin is not None:
                await stdin.send(encode_message(message))
        except STREAM_END_ERRORS as error:
            self._notify_exit()
            raise anyio.BrokenResourceError from error

    async def read_stderr(self) -> None:
        chunks = _read_chunks(self._process.stderr)
        async for line in split_lines(chunks, MAX_LINE_BYTES, too_long="split"):
            self._report(line.decode(errors="replace").rstrip())

    async def limit_discovery(self, on_ignored: Callable[[], None]) -> None:
        """Answer for a server that ignores a question that it does not know."""
        await self._discovery_sent.wait()
        await anyio.sleep(DISCOVER_SECONDS)
        if self._discovery is not None:
            errors = self._reader.requests.failed(unanswered_discovery(self._discovery))
            if errors:
                on_ignored()
            await self._deliver(errors)

    async def wait_for_exit(self) -> None:
        """End the connection with the process, even if one of its children holds its stdout."""
        await self._process.wait()
        signal_group(self._process.pid, signal.SIGTERM)
        with anyio.move_on_after(FLUSH_SECONDS):
            await self._stdout_closed.wait()
        self._notify_exit()

    def end_messages(self) -> None:
        """Pass on no more messages; what was written still reaches the server."""
        self.read_stream.close()
        self.write_stream.is_closed = True

    @property
    def has_closed_stdout(self) -> bool:
        """Whether the server closed its stdout by itself."""
        return self._stdout_closed.is_set()

    def _notify_exit(self) -> None:
        self._read_stream_writer.close()
        self._on_end()

    async def _read_stdout_chunks(self, unended: bytearray) -> AsyncGenerator[bytes]:
        stdout = self._process.stdout
        may_end_line = True
        with contextlib.suppress(*STREAM_END_ERRORS):
            while stdout is not None:
                is_unended = unended and may_end_line
                seconds = INCOMPLETE_SECONDS if is_unended else self._reader.wait_seconds
                chunk = b""
                with anyio.move_on_after(seconds) as limit:
                    chunk = await stdout.receive(READ_BYTES)
                may_end_line = not limit.cancelled_caught
                if may_end_line:
                    yield chunk
                elif not is_unended:
                    await self._deliver(self._reader.end_wait())
                elif parse_json(bytes(unended)) is not None:
                    # A server that forgets the end of the line waits as we do.
                    yield b"\n"

    async def _deliver(self, messages: list[JSONRPCMessage]) -> None:
        for message in messages:
            if self._has_receiver:
                try:
                    await self._read_stream_writer.send(SessionMessage(message))
                except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                    self._has_receiver = False

    def _report_output(self, text: str) -> None:
        # Many servers greet on stdout, and it helps to see what a faulty one writes there.
        for line in text.splitlines():
            self._report(f"(not a message, on stdout) {line.rstrip()}")


async def _read_chunks(pipe: ByteReceiveStream | None) -> AsyncGenerator[bytes]:
    with contextlib.suppress(*STREAM_END_ERRORS):
        while pipe is not None:
            yield await pipe.receive(READ_BYTES)
