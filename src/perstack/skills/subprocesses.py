"""Starts and ends the child processes of a job.

Each leads a process group of its own: what it starts is ended with it, so that nothing outlives the
job unseen and nothing that holds its pipes open can keep the job waiting.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
from anyio.abc import Process

# Reads the process groups to guard from its stdin. At its end, which comes however this process
# ends, the groups that are still guarded get SIGTERM and then SIGKILL. A shell starts in a
# millisecond; a parent-death signal would reach the child only, and not its own children.
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


POLL_SECONDS = 0.02

STREAM_END_ERRORS = (
    anyio.EndOfStream,
    anyio.ClosedResourceError,
    anyio.BrokenResourceError,
    OSError,
)


class ProcessGuard:
    """Guards process groups by a watchdog process, which is started before the first of them."""

    def __init__(self) -> None:
        self._watchdog: Process | None = None
        self._is_disabled = False
        self._lock = anyio.Lock()

    async def prepare(self) -> None:
        await self._send("")

    async def guard(self, group: int) -> None:
        await self._send(f"+ {group}\n")

    async def release(self, group: int) -> None:
        if self._watchdog is not None:
            await self._send(f"- {group}\n")

    async def close(self) -> None:
        """End the watchdog. Every guarded group has been released before."""
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


class Launcher:
    """Starts every child process of a job, and ends it together with its process group.

    Args:
        guard: Guards the process groups; without one they may outlive a killed process.
    """

    def __init__(self, guard: ProcessGuard | None = None) -> None:
        self._guard = guard

    async def start(
        self,
        argv: Sequence[str],
        *,
        cwd: str | Path,
        environment: Mapping[str, str],
        stdin: int,
        stdout: int,
        stderr: int,
    ) -> Process:
        """Start a process. The caller has to `stop` it, also when it has ended by itself.

        Args:
            argv: The command and its arguments.
            cwd: Its working directory, which exists now.
            environment: All of its environment.
            stdin: A descriptor, `subprocess.PIPE` or `subprocess.DEVNULL`.
            stdout: As `stdin`.
            stderr: As `stdin`.

        Raises:
            OSError: The command cannot be started.
            ValueError: Its arguments cannot be handed to the system.
        """
        # Cancelled in between, only the process itself would be ended and not its group.
        with anyio.CancelScope(shield=True):
            if self._guard is not None:
                await self._guard.prepare()
            process = await _open_process(argv, cwd, environment, (stdin, stdout, stderr))
            if self._guard is not None:
                await self._guard.guard(process.pid)
            return process
        raise AssertionError("this scope is never cancelled")

    async def stop(self, process: Process, grace_seconds: float, orphan_seconds: float) -> None:
        """End a process group: by the end of its stdin, then by SIGTERM, then by SIGKILL.

        Takes a bounded time and is not cancelled before it is done.

        Args:
            process: The leader of the group.
            grace_seconds: For the process to end, at each of these steps.
            orphan_seconds: For the rest of the group, once the process itself has ended.
        """
        with anyio.CancelScope(shield=True):
            await _stop_group(process, grace_seconds, orphan_seconds)
            if self._guard is not None:
                await self._guard.release(process.pid)


async def _open_process(
    argv: Sequence[str],
    cwd: str | Path | None,
    environment: Mapping[str, str],
    streams: tuple[int, int, int],
) -> Process:
    stdin, stdout, stderr = streams
    return await anyio.open_process(
        list(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        env=dict(environment),
        start_new_session=True,
    )


async def _stop_group(process: Process, grace_seconds: float, orphan_seconds: float) -> None:
    if process.stdin is not None:
        with contextlib.suppress(*STREAM_END_ERRORS):
            await process.stdin.aclose()
        with anyio.move_on_after(grace_seconds):
            await process.wait()
    # Also when the process itself is gone: its children may still be there.
    if signal_group(process.pid, signal.SIGTERM):
        with anyio.move_on_after(grace_seconds):
            await process.wait()
            with anyio.move_on_after(orphan_seconds):
                await _wait_for_group_exit(process.pid)
        signal_group(process.pid, signal.SIGKILL)
        with anyio.move_on_after(grace_seconds):
            await process.wait()
    # What even SIGKILL does not end, or runs as another user, must not be waited for.
    if process.returncode is not None:
        await process.aclose()


def commands_of_group(group: int) -> list[str]:
    """The command lines of the processes of a group that still run; none where they are not told.

    Blocks for as long as it takes to look at all processes.
    """
    commands: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        # Each may end while it is looked at.
        with contextlib.suppress(OSError, ValueError, IndexError):
            # Behind the name, which may have spaces and brackets: state, parent, group.
            state, _, its_group, *_ = _read(process / "stat").rpartition(")")[2].split()
            if int(its_group) == group and state not in "ZX":
                commands.append(_read(process / "cmdline").replace("\0", " ").strip())
    return commands


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def signal_group(group: int, signal_number: int) -> bool:
    """Signal a process group; returns whether there was one that could be signalled."""
    try:
        os.killpg(group, signal_number)
    except (ProcessLookupError, PermissionError):
        # Some systems deny a signal to a group in which only dead processes are left.
        return False
    return True


async def _wait_for_group_exit(group: int) -> None:
    while signal_group(group, 0):
        _reap_orphans(group)
        # The kernel has no event for the end of a group.
        await anyio.sleep(POLL_SECONDS)


def _reap_orphans(group: int) -> None:
    """Collect orphans, which come to us where perstack is the first process of a container."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-group, os.WNOHANG)


async def _start_watchdog() -> Process:
    # In the foreground process group it would be ended together with what it guards.
    return await _open_process(
        ["/bin/sh", "-c", WATCHDOG_SCRIPT],
        None,
        {"PATH": "/usr/bin:/bin"},
        (subprocess.PIPE, subprocess.DEVNULL, subprocess.DEVNULL),
    )
