"""Running one command to its end, with everything that it started.

The command leads a process group of its own, and the call is over when the command is: what it left
in the background is ended with it, so nothing runs on unseen and nothing that holds the pipes open
can keep the call waiting.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio
from anyio.abc import Process

from perstack.skills.builtin.tool import GroupGuard

# Reads the process groups to guard from its stdin. When that ends, and it ends however this process
# ends, what is still guarded is told to stop and then killed. A shell is used as it starts in a
# millisecond, and a watcher because a death signal would reach the child only, not what it started.
WATCHDOG_SCRIPT = """
trap '' HUP INT TERM
groups=" "
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) case $groups in
         *" $group "*) groups="${groups%% $group *} ${groups#* $group }" ;;
       esac ;;
  esac
done
[ "$groups" = " " ] && exit 0
for group in $groups; do kill -s TERM -- "-$group"; done
sleep 1
for group in $groups; do kill -s KILL -- "-$group"; done
"""


class ProcessGuard:
    """Guards process groups against outliving this process. Started before the first of them."""

    def __init__(self) -> None:
        self._watchdog: Process | None = None
        self._is_disabled = False
        self._lock = anyio.Lock()

    async def prepare(self) -> None:
        """Be ready before a group is started, which could not be guarded at once otherwise."""
        await self._send("")

    async def guard(self, group: int) -> None:
        """End this process group if this process dies before `release`."""
        await self._send(f"+ {group}\n")

    async def release(self, group: int) -> None:
        """The process group is gone."""
        if self._watchdog is not None:
            await self._send(f"- {group}\n")

    async def close(self) -> None:
        """End the watcher. Every guarded group has been released before."""
        watchdog, self._watchdog = self._watchdog, None
        self._is_disabled = True
        if watchdog is None or watchdog.stdin is None:
            return
        with anyio.CancelScope(shield=True):
            await watchdog.stdin.aclose()
            await watchdog.wait()
            await watchdog.aclose()

    async def _send(self, line: str) -> None:
        async with self._lock:
            if self._is_disabled:
                return
            # A machine without a shell still runs skills; they only lose this safety net.
            try:
                self._watchdog = self._watchdog or await _start_watchdog()
                if line and self._watchdog.stdin is not None:
                    await self._watchdog.stdin.send(line.encode())
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._is_disabled = True
                await self._discard_watchdog()

    async def _discard_watchdog(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            with contextlib.suppress(ProcessLookupError):
                watchdog.kill()
            await watchdog.aclose()


async def _start_watchdog() -> Process:
    return await anyio.open_process(
        ["/bin/sh", "-c", WATCHDOG_SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin"},
        # In the foreground group it would be ended together with what it watches.
        start_new_session=True,
    )


MAX_KEPT_BYTES = 32 * 1024
"""Of each stream; half from the beginning and half from the end."""

HALF_KEPT_BYTES = MAX_KEPT_BYTES // 2


class OutputBuffer:
    """One stream of a command: counts everything, keeps what an answer can show."""

    def __init__(self) -> None:
        self.size = 0
        self._head = bytearray()
        self._tail = bytearray()

    def add(self, data: bytes) -> None:
        """Take in what was read next."""
        self.size += len(data)
        remaining = HALF_KEPT_BYTES - len(self._head)
        self._head += data[:remaining]
        self._tail += data[remaining:]
        # Trimmed only now and then, so that many small reads do not move the tail each time.
        if len(self._tail) > 2 * MAX_KEPT_BYTES:
            del self._tail[:-HALF_KEPT_BYTES]

    @property
    def text(self) -> str:
        """The output, or its two ends with a note between them."""
        tail = self._tail[-HALF_KEPT_BYTES:]
        omitted = self.size - len(self._head) - len(tail)
        if omitted == 0:
            return _decode_lossy(self._head + tail)
        return (
            f"{_decode_lossy(self._head)}\n[... {omitted} bytes left out;"
            f" redirect the output to a file and read that in parts ...]\n{_decode_lossy(tail)}"
        )


def _decode_lossy(data: bytes | bytearray) -> str:
    return data.decode("utf-8", "replace")


MAX_OUTPUT_BYTES = 10 * 1024 * 1024
READ_CHUNK_BYTES = 64 * 1024
TERMINATE_GRACE_SECONDS = 2.0
"""Between the request to stop and the kill."""

ORPHAN_GRACE_SECONDS = 0.25
"""For the rest of the group once the command itself has stopped; short, because dead ones that the
system has not collected yet cannot be told from living ones."""

PIPE_GRACE_SECONDS = 0.5
"""For what is left in the pipes when everything that we know of has ended."""

POLL_SECONDS = 0.02

ExitReason = Literal["exited", "timedOut", "flooded"]


@dataclass(frozen=True, slots=True)
class Command:
    """A command and where it runs. `cwd` is a directory that exists now."""

    argv: Sequence[str]
    cwd: str
    environment: Mapping[str, str]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended; `exit_code` is the negative signal number if a signal ended it."""

    exit_reason: ExitReason
    exit_code: int
    stdout: OutputBuffer
    stderr: OutputBuffer


async def run_command(command: Command, group_guard: GroupGuard | None) -> CommandResult:
    """Run a command until it ends, its time is up, or it writes more than it may.

    Cancellation ends the whole process group first.

    Raises:
        OSError: The command cannot be started.
        ValueError: Its arguments cannot be handed to the system.
    """
    if group_guard is not None:
        await group_guard.prepare()
    outputs = (OutputBuffer(), OutputBuffer())
    pipes = (os.pipe(), os.pipe())
    readable = [pipe[0] for pipe in pipes]
    for handle in readable:
        os.set_blocking(handle, False)
    try:
        try:
            process = await _start_process(command, pipes[0][1], pipes[1][1])
        finally:
            for _, writable in pipes:
                os.close(writable)
        exit_reason = await _supervise(process, command, outputs, readable, group_guard)
    finally:
        for handle in readable:
            os.close(handle)
    exit_code = -signal.SIGKILL if process.returncode is None else process.returncode
    return CommandResult(exit_reason, exit_code, *outputs)


async def _start_process(command: Command, stdout: int, stderr: int) -> Process:
    # Cancelled while it starts, only the command itself would be ended and not its group.
    with anyio.CancelScope(shield=True):
        return await anyio.open_process(
            list(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=command.cwd,
            env=dict(command.environment),
            start_new_session=True,
        )
    raise AssertionError("nobody cancels this scope")


async def _supervise(
    process: Process,
    command: Command,
    outputs: tuple[OutputBuffer, OutputBuffer],
    readable: list[int],
    group_guard: GroupGuard | None,
) -> ExitReason:
    time_limit = anyio.CancelScope()
    size_limit = anyio.CancelScope()

    async def collect(handle: int, output: OutputBuffer) -> None:
        while data := await _read_chunk(handle):
            output.add(data)
            if sum(each.size for each in outputs) > MAX_OUTPUT_BYTES:
                size_limit.cancel()

    async with anyio.create_task_group() as readers:
        try:
            if group_guard is not None:
                await group_guard.guard(process.pid)
            for handle, output in zip(readable, outputs, strict=True):
                readers.start_soon(collect, handle, output)
            time_limit.deadline = anyio.current_time() + command.timeout_seconds
            with time_limit, size_limit:
                await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await _terminate_group(process)
                if group_guard is not None:
                    await group_guard.release(process.pid)
        readers.cancel_scope.deadline = anyio.current_time() + PIPE_GRACE_SECONDS
    if size_limit.cancelled_caught:
        return "flooded"
    return "timedOut" if time_limit.cancelled_caught else "exited"


async def _read_chunk(handle: int) -> bytes:
    while True:
        await anyio.wait_readable(handle)
        try:
            return os.read(handle, READ_CHUNK_BYTES)
        except BlockingIOError:
            continue


async def _terminate_group(process: Process) -> None:
    """End what is left of the process group, kindly first. Does nothing if nothing is left."""
    if _signal_group(process.pid, signal.SIGTERM):
        with anyio.move_on_after(TERMINATE_GRACE_SECONDS):
            await process.wait()
            with anyio.move_on_after(ORPHAN_GRACE_SECONDS):
                await _wait_for_group_exit(process.pid)
        _signal_group(process.pid, signal.SIGKILL)
    # A process that even SIGKILL does not end sits in the kernel; it must not take the job along.
    with anyio.move_on_after(TERMINATE_GRACE_SECONDS):
        await process.aclose()


async def _wait_for_group_exit(process_group: int) -> None:
    while _signal_group(process_group, 0):
        _reap_orphans(process_group)
        # The kernel has no event for the end of a group.
        await anyio.sleep(POLL_SECONDS)


def _reap_orphans(process_group: int) -> None:
    """Collect orphans, which come to us where perstack is the first process of a container."""
    try:
        os.waitpid(-process_group, os.WNOHANG)
    except ChildProcessError:
        return


def _signal_group(process_group: int, signal_number: int) -> bool:
    """Whether the group was still there to be signalled."""
    try:
        os.killpg(process_group, signal_number)
    except (ProcessLookupError, PermissionError):
        # Some systems deny a signal to a group in which only dead processes are left.
        return False
    return True
