"""Running one command to its end, with everything that it started.

The command leads a process group of its own, and the call is over when the command is: what it left
in the background is ended with it, so nothing runs on unseen and nothing that holds the pipes open
can keep the call waiting.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import anyio
from anyio.abc import Process

from perstack.skills.base.output import Output
from perstack.skills.base.tool import GroupGuard

MAX_OUTPUT_BYTES = 10 * 1024 * 1024
READ_BYTES = 64 * 1024
END_GRACE_SECONDS = 2.0
"""Between the request to stop and the kill."""

ORPHAN_GRACE_SECONDS = 0.25
"""For the rest of the group once the command itself has stopped; short, because dead ones that the
system has not collected yet cannot be told from living ones."""

PIPE_GRACE_SECONDS = 0.5
"""For what is left in the pipes when everything that we know of has ended."""

POLL_SECONDS = 0.02

Ending = Literal["exited", "timedOut", "flooded"]


@dataclass(frozen=True, slots=True)
class Command:
    """A command and where it runs. `folder` is a directory that exists now."""

    line: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Completion:
    """How a command ended; `exit_code` is the negative signal number if a signal ended it."""

    ending: Ending
    exit_code: int
    stdout: Output
    stderr: Output


async def run_command(command: Command, group_guard: GroupGuard | None) -> Completion:
    """Run a command until it ends, its time is up, or it writes more than it may.

    Cancellation ends the whole process group first.

    Raises:
        OSError: The command cannot be started.
        ValueError: Its arguments cannot be handed to the system.
    """
    if group_guard is not None:
        await group_guard.prepare()
    outputs = (Output(), Output())
    pipes = (os.pipe(), os.pipe())
    readable = [pipe[0] for pipe in pipes]
    for handle in readable:
        os.set_blocking(handle, False)
    try:
        try:
            process = await _start(command, pipes[0][1], pipes[1][1])
        finally:
            for _, writable in pipes:
                os.close(writable)
        ending = await _attend(process, command, outputs, readable, group_guard)
    finally:
        for handle in readable:
            os.close(handle)
    exit_code = -signal.SIGKILL if process.returncode is None else process.returncode
    return Completion(ending, exit_code, *outputs)


async def _start(command: Command, stdout: int, stderr: int) -> Process:
    # Cancelled while it starts, only the command itself would be ended and not its group.
    with anyio.CancelScope(shield=True):
        return await anyio.open_process(
            list(command.line),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=command.folder,
            env=dict(command.environment),
            start_new_session=True,
        )
    raise AssertionError("nobody cancels this scope")


async def _attend(
    process: Process,
    command: Command,
    outputs: tuple[Output, Output],
    readable: list[int],
    group_guard: GroupGuard | None,
) -> Ending:
    time_limit = anyio.CancelScope()
    size_limit = anyio.CancelScope()

    async def drain(handle: int, output: Output) -> None:
        while data := await _read(handle):
            output.add(data)
            if sum(each.size for each in outputs) > MAX_OUTPUT_BYTES:
                size_limit.cancel()

    async with anyio.create_task_group() as readers:
        try:
            if group_guard is not None:
                await group_guard.guard(process.pid)
            for handle, output in zip(readable, outputs, strict=True):
                readers.start_soon(drain, handle, output)
            time_limit.deadline = anyio.current_time() + command.timeout_seconds
            with time_limit, size_limit:
                await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)
                if group_guard is not None:
                    await group_guard.release(process.pid)
        readers.cancel_scope.deadline = anyio.current_time() + PIPE_GRACE_SECONDS
    if size_limit.cancelled_caught:
        return "flooded"
    return "timedOut" if time_limit.cancelled_caught else "exited"


async def _read(handle: int) -> bytes:
    while True:
        await anyio.wait_readable(handle)
        try:
            return os.read(handle, READ_BYTES)
        except BlockingIOError:
            continue


async def _end(process: Process) -> None:
    """End what is left of the process group, kindly first. Does nothing if nothing is left."""
    if _signal_group(process.pid, signal.SIGTERM):
        with anyio.move_on_after(END_GRACE_SECONDS):
            await process.wait()
            with anyio.move_on_after(ORPHAN_GRACE_SECONDS):
                await _group_gone(process.pid)
        _signal_group(process.pid, signal.SIGKILL)
    # A process that even SIGKILL does not end sits in the kernel; it must not take the job along.
    with anyio.move_on_after(END_GRACE_SECONDS):
        await process.aclose()


async def _group_gone(group: int) -> None:
    while _signal_group(group, 0):
        _reap_orphans(group)
        # The kernel has no event for the end of a group.
        await anyio.sleep(POLL_SECONDS)


def _reap_orphans(group: int) -> None:
    """Collect orphans, which come to us where perstack is the first process of a container."""
    try:
        os.waitpid(-group, os.WNOHANG)
    except ChildProcessError:
        return


def _signal_group(group: int, number: int) -> bool:
    """Whether the group was still there to be signalled."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # Some systems deny a signal to a group in which only dead processes are left.
        return False
    return True
