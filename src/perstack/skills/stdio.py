"""A skill server as a child process, with messages over its stdin and stdout.

The SDK's own stdio transport passes on more of the environment than a skill may see, and does not
end what a server had started that ended by itself.
"""

import contextlib
import signal
import subprocess
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage

from perstack.errors import SkillError
from perstack.json_lines import LineTooLongError, encode_message, split_lines
from perstack.redaction import Redactor, redact_command_line, secret_variables
from perstack.skills.connection import ProtocolMode, ServerConnection
from perstack.skills.message_reader import MessageReader
from perstack.skills.server_command import INSTALL_HINTS, ServerCommand
from perstack.skills.subprocesses import STREAM_END_ERRORS, Launcher, signal_group

InboundMessage = SessionMessage | Exception
MessageStreams = tuple[MemoryObjectReceiveStream[InboundMessage], "_MessageWriter"]

FLUSH_SECONDS = 0.5
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024
MAX_STDERR_LINE_CHARACTERS = 2_000
MAX_STDERR_LINES = 1_000
STDERR_TAIL_LINES = 10
READ_BYTES = 64 * 1024


class StdioTransport:
    """One server process.

    Args:
        server_command: Its command line and environment.
        launcher: Starts and ends the process.
        grace_seconds: How long the process may take to end by itself.
        protocol_mode: How to agree on a protocol version.
    """

    skill_type = "mcpStdioSkill"

    def __init__(
        self,
        server_command: ServerCommand,
        launcher: Launcher,
        *,
        grace_seconds: float,
        protocol_mode: ProtocolMode = "auto",
    ) -> None:
        self.protocol_mode: ProtocolMode = protocol_mode
        variables = server_command.required_variables
        self.redactor = Redactor.of_variables(variables)
        self.result_redactor = Redactor.of_variables(secret_variables(variables))
        self.spawn_seconds = 0.0
        self.exit_code: int | None = None
        self.stderr_tail: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
        self._server_command = server_command
        self._launcher = launcher
        self._grace_seconds = grace_seconds
        self._stderr_line_count = 0
        self._has_exited = False

    @asynccontextmanager
    async def open(self, connection: ServerConnection) -> AsyncGenerator[MessageStreams]:
        """Start the process; on leaving, end it and everything in its process group.

        Raises:
            SkillError: The process could not be started.
        """
        connection.on_starting(
            self._server_command.command, redact_command_line(self._server_command.args)
        )
        started_at = anyio.current_time()
        process = await self._start()
        # No await before the task group: a cancellation in between would lose the process.
        self.spawn_seconds = anyio.current_time() - started_at
        pipes = _ProcessStreams(process, connection, partial(self._report_stderr, connection))
        async with anyio.create_task_group() as tasks:
            for work in (
                pipes.read_stdout,
                pipes.read_stderr,
                pipes.wait_for_exit,
            ):
                tasks.start_soon(pipes.run_until_closed, work)
            try:
                yield pipes.read_stream, pipes.write_stream
            finally:
                # Every wait inside is bounded, so a cancelled job is not held up for long.
                with anyio.CancelScope(shield=True):
                    self._has_exited = pipes.has_closed_stdout
                    pipes.end_messages()
                    await self._launcher.stop(process, self._grace_seconds, self._grace_seconds)
                    self.exit_code = process.returncode
                    pipes.close()

    def fallback(self) -> "StdioTransport | None":
        """The older handshake, for a server that ended at the first message."""
        if self.protocol_mode == "auto" and self._has_exited:
            return StdioTransport(
                self._server_command,
                self._launcher,
                grace_seconds=self._grace_seconds,
                protocol_mode="legacy",
            )
        return None

    def failure_details(self) -> str:
        exit_note = f" (exit code {self.exit_code})" if self._has_exited else ""
        lines = "\n".join(f"  {line}" for line in self.stderr_tail)
        output = f" Its last output was:\n{lines}\n" if lines else " It wrote nothing to stderr."
        words = (self._server_command.command, *self._server_command.args)
        command_line = self.redactor.redact(" ".join(redact_command_line(words)))
        return f"Command: {command_line}{exit_note}.{output}"

    async def _start(self) -> Process:
        server_command = self._server_command
        try:
            return await self._launcher.start(
                [server_command.command, *server_command.args],
                cwd=server_command.workspace,
                environment=server_command.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            raise SkillError(
                f"Skill {server_command.skill_name!r} cannot be started:"
                f" {server_command.command!r}: {error}.",
                skill=server_command.skill_name,
                hint=INSTALL_HINTS.get(server_command.command, "Check `command` and `args`."),
            ) from error

    def _report_stderr(self, connection: ServerConnection, line: str) -> None:
        line = self.redactor.redact(line)[:MAX_STDERR_LINE_CHARACTERS]
        self.stderr_tail.append(line)
        self._stderr_line_count += 1
        if self._stderr_line_count <= MAX_STDERR_LINES:
            connection.on_stderr(line)
        elif self._stderr_line_count == MAX_STDERR_LINES + 1:
            connection.on_stderr(f"(more than {MAX_STDERR_LINES} lines; the rest is not shown)")


class _MessageWriter:
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


class _ProcessStreams:
    """The three pipes of a process as message streams."""

    def __init__(
        self, process: Process, connection: ServerConnection, report: Callable[[str], None]
    ) -> None:
        self._process = process
        self._connection = connection
        self._report = report
        self._reader = MessageReader(self._report_output)
        self._has_receiver = True
        self._read_stream_writer, self.read_stream = anyio.create_memory_object_stream[
            InboundMessage
        ](0)
        self.write_stream = _MessageWriter(self._write)
        self._scopes: list[anyio.CancelScope] = []
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
            chunks = self._read_stdout_chunks()
            async for line in split_lines(chunks, MAX_MESSAGE_BYTES, too_long="raise"):
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
        self._connection.end()

    async def _read_stdout_chunks(self) -> AsyncGenerator[bytes]:
        stdout = self._process.stdout
        with contextlib.suppress(*STREAM_END_ERRORS):
            while stdout is not None:
                chunk: bytes | None = None
                with anyio.move_on_after(self._reader.wait_seconds):
                    chunk = await stdout.receive(READ_BYTES)
                if chunk is None:
                    await self._deliver(self._reader.end_wait())
                else:
                    yield chunk

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
