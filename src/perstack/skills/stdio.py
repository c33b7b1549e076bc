"""A server as a child process: messages over its stdin and stdout, and its end together with ours.

The SDK's own stdio transport passes more of the environment on than a skill may see, and leaves
alone what a server that ended by itself had started. Hence this one.
"""

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from perstack.errors import SkillError
from perstack.skills.launch import INSTALL_HINTS, Launch
from perstack.skills.reaper import Reaper
from perstack.skills.redact import SkillRedactor
from perstack.skills.wire import Era, Watcher

Inbound = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Inbound], MemoryObjectSendStream[SessionMessage]]

FLUSH_SECONDS = 0.5
WATCH_SECONDS = 0.5
FIRST_LOOK_SECONDS = 0.002
LAST_LOOK_SECONDS = 0.05
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024
MAX_SHOWN_CHARACTERS = 2_000
MAX_SHOWN_LINES = 1_000
TAIL_LINES = 10
READ_BYTES = 64 * 1024

StreamEnd = (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)


class StdioWire:
    """One server process.

    Args:
        launch: What to start.
        reaper: Guards the process group.
        grace_seconds: How long the process may take to end by itself.
        era: How to agree on a protocol version.
    """

    skill_type = "mcpStdioSkill"

    def __init__(
        self, launch: Launch, reaper: Reaper, *, grace_seconds: float, era: Era = "auto"
    ) -> None:
        self.era: Era = era
        self.redactor = SkillRedactor(launch.required)
        self.spawn_seconds = 0.0
        self.exit_code: int | None = None
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._launch = launch
        self._reaper = reaper
        self._grace_seconds = grace_seconds
        self._shown = 0
        self._has_died = False

    @asynccontextmanager
    async def transport(self, watcher: Watcher) -> AsyncGenerator[Streams]:
        """Start the process; on leaving, end it and everything in its process group.

        Raises:
            SkillError: The process could not be started.
        """
        watcher.starting(self._launch.command, self._launch.args)
        await self._reaper.prepare()
        started = anyio.current_time()
        process = await self._spawn()
        # No await before the task group: a cancellation in between would lose the process.
        self.spawn_seconds = anyio.current_time() - started
        pipes = _Pipes(process, watcher, lambda line: self._show(watcher, line))
        async with anyio.create_task_group() as tasks:
            for work in (pipes.read, pipes.write, pipes.read_stderr, pipes.watch):
                tasks.start_soon(pipes.until_closed, work)
            try:
                await self._reaper.guard(process.pid)
                yield pipes.received, pipes.outgoing
            finally:
                # Every wait inside is bounded, so a cancelled job is not held up for long.
                with anyio.CancelScope(shield=True):
                    self._has_died = pipes.has_ended
                    await pipes.flush()
                    await stop(process, self._grace_seconds)
                    await self._reaper.release(process.pid)
                    self.exit_code = process.returncode
                    pipes.close()

    def fallback(self) -> "StdioWire | None":
        """The older handshake, for a server that ended at the sight of an unknown message."""
        if self.era == "auto" and self._has_died:
            return StdioWire(
                self._launch, self._reaper, grace_seconds=self._grace_seconds, era="legacy"
            )
        return None

    def failure_details(self) -> str:
        """What the process left behind, for an error message: exit code and last lines."""
        ending = f" (exit code {self.exit_code})" if self._has_died else ""
        lines = "\n".join(f"  {line}" for line in self.tail)
        said = f" Its last output was:\n{lines}\n" if lines else " It wrote nothing to stderr."
        return f"Command: {self.redactor.diagnostics(self._launch.line)}{ending}.{said}"

    async def _spawn(self) -> Process:
        launch = self._launch
        try:
            return await anyio.open_process(
                [launch.command, *launch.args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=launch.workspace,
                env=dict(launch.environment),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise SkillError(
                f"Skill {launch.skill_name!r} cannot be started: {launch.command!r}: {error}.",
                skill=launch.skill_name,
                hint=INSTALL_HINTS.get(launch.command, "Check `command` and `args`."),
            ) from error

    def _show(self, watcher: Watcher, line: str) -> None:
        line = self.redactor.diagnostics(line)[:MAX_SHOWN_CHARACTERS]
        self.tail.append(line)
        self._shown += 1
        if self._shown <= MAX_SHOWN_LINES:
            watcher.said(line)
        elif self._shown == MAX_SHOWN_LINES + 1:
            watcher.said(f"(more than {MAX_SHOWN_LINES} lines; the rest is not shown)")


class _Pipes:
    """The three pipes of a process as message streams."""

    def __init__(self, process: Process, watcher: Watcher, show: Callable[[str], None]) -> None:
        self._process = process
        self._watcher = watcher
        self._show = show
        self._incoming, self.received = anyio.create_memory_object_stream[Inbound](0)
        self.outgoing, self._to_send = anyio.create_memory_object_stream[SessionMessage](0)
        self._scopes: list[anyio.CancelScope] = []
        self._drained = anyio.Event()
        self._written = anyio.Event()

    async def until_closed(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work on a pipe beyond cancellation: a server that is not listened to may not end."""
        with anyio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            await work()

    def close(self) -> None:
        """Stop all work on the pipes."""
        for scope in self._scopes:
            scope.cancel()

    async def read(self) -> None:
        """Deliver the messages of stdout; when unwanted, drain it so that the server can end."""
        is_wanted = True
        try:
            async for line in lines(self._process.stdout, MAX_MESSAGE_BYTES):
                message = self._parse(line)
                if is_wanted and message is not None:
                    try:
                        await self._incoming.send(message)
                    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                        is_wanted = False
        except OversizeError:
            self._show(f"(a message of more than {MAX_MESSAGE_BYTES} bytes; the server is ended)")
        finally:
            self._drained.set()
            self._end()

    async def write(self) -> None:
        """Write what the session sends."""
        stdin = self._process.stdin
        try:
            async for outbound in self._to_send:
                text = outbound.message.model_dump_json(by_alias=True, exclude_unset=True)
                if stdin is not None:
                    await stdin.send(f"{text}\n".encode())
        except StreamEnd:
            self._end()
        finally:
            self._to_send.close()
            self._written.set()

    async def read_stderr(self) -> None:
        """Show stderr, line by line; a line without end is cut."""
        async for line in lines(self._process.stderr, MAX_LINE_BYTES, cut=True):
            self._show(line.decode(errors="replace").rstrip())

    async def watch(self) -> None:
        """End the connection with the server, also if what it started still holds its stdout."""
        while self._process.returncode is None:  # noqa: ASYNC110 -- `wait` waits for the pipes too
            await anyio.sleep(WATCH_SECONDS)
        signal_group(self._process.pid, signal.SIGTERM)
        with anyio.move_on_after(FLUSH_SECONDS):
            await self._drained.wait()
        self._end()

    async def flush(self) -> None:
        """Let the last messages go out, such as a cancellation."""
        self.received.close()
        self.outgoing.close()
        with anyio.move_on_after(FLUSH_SECONDS):
            await self._written.wait()

    @property
    def has_ended(self) -> bool:
        """Whether the server closed its stdout by itself."""
        return self._drained.is_set()

    def _end(self) -> None:
        self._incoming.close()
        self._watcher.ended()

    def _parse(self, line: bytes) -> SessionMessage | None:
        if not line.strip():
            return None
        try:
            return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
        except ValueError:
            # Many servers greet on stdout; who looks for a fault wants to see what they said.
            self._show(f"(not a message, on stdout) {line.decode(errors='replace').rstrip()}")
            return None


class OversizeError(Exception):
    """A line is longer than anyone has a use for."""


async def lines(
    stream: ByteReceiveStream | None, limit: int, *, cut: bool = False
) -> AsyncIterator[bytes]:
    """The lines of a pipe until it ends.

    Args:
        stream: The pipe.
        limit: The longest line, in bytes.
        cut: Give a longer line in pieces instead of raising.

    Raises:
        OversizeError: A line is longer than `limit`.
    """
    buffer = bytearray()
    while stream is not None:
        try:
            chunk = await stream.receive(READ_BYTES)
        except StreamEnd:
            break
        searched = len(buffer)
        buffer += chunk
        start = 0
        while (end := buffer.find(b"\n", max(start, searched))) >= 0:
            yield bytes(buffer[start:end])
            start = end + 1
        del buffer[:start]
        if len(buffer) > limit:
            if not cut:
                raise OversizeError
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


async def stop(process: Process, grace_seconds: float) -> None:
    """End a process group: by the end of its stdin, then by SIGTERM, then by SIGKILL."""
    if process.stdin is not None:
        with contextlib.suppress(*StreamEnd):
            await process.stdin.aclose()
    await _wait(lambda: process.returncode is not None, grace_seconds)
    # Also when the server itself is gone: it may have left behind what it started.
    if signal_group(process.pid, signal.SIGTERM):
        await _wait(lambda: not signal_group(process.pid, 0), grace_seconds)
        signal_group(process.pid, signal.SIGKILL)
        await _wait(lambda: process.returncode is not None, grace_seconds)
    close_pipes(process)


def signal_group(group: int, how: int) -> bool:
    """Signal a process group; whether anyone was there."""
    try:
        os.killpg(group, how)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Someone is there who changed identity; there is nothing more we may do.
        return True
    return True


def close_pipes(process: Process) -> None:
    """Close our ends of the pipes even if a survivor that left the group holds the others."""
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    close = getattr(transport, "close", None)
    if callable(close):
        with contextlib.suppress(OSError):
            close()


async def _wait(is_over: Callable[[], bool], seconds: float) -> None:
    # Not `Process.wait`: it also waits for the pipes, which a survivor may hold.
    pause = FIRST_LOOK_SECONDS
    with anyio.move_on_after(seconds):
        while not is_over():
            await anyio.sleep(pause)
            pause = min(pause * 1.5, LAST_LOOK_SECONDS)
