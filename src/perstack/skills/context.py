"""What the skills of one job, or of one engine, work with."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from perstack.skills.subprocesses import Launcher, ProcessGuard


@dataclass(frozen=True, slots=True)
class SkillTimeouts:
    """Seconds; generous, because a server may have much to load.

    Attributes:
        start_seconds: From the first attempt until a server's tools are known.
        download_seconds: The same, for a command that may download the server first.
        slow_start_seconds: After which it is told that a start takes long.
        list_seconds: For listing tools that have changed.
        call_seconds: For one call of a tool.
        grace_seconds: For a process to end after its stdin has ended, and again after SIGTERM.
        close_seconds: For ending a session over HTTP.
    """

    start_seconds: float = 60.0
    download_seconds: float = 300.0
    slow_start_seconds: float = 15.0
    list_seconds: float = 20.0
    call_seconds: float = 600.0
    grace_seconds: float = 2.0
    close_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class SkillContext:
    """Where the skills of one job, or of one engine, run, and what starts them.

    Attributes:
        workspace: Working folder of the server processes, and what the built-in tools may touch.
        environment: Where skills find what they name in `requiredEnv`.
        task_group: Runs the connections.
        launcher: Starts the processes.
        timeouts: How long things may take.
    """

    workspace: Path
    environment: Mapping[str, str] = field(repr=False)
    task_group: TaskGroup
    launcher: Launcher
    timeouts: SkillTimeouts


@asynccontextmanager
async def open_context(
    workspace: Path, environment: Mapping[str, str], timeouts: SkillTimeouts
) -> AsyncGenerator[SkillContext]:
    """What skills need to run; whoever uses it ends its connections before it is left."""
    guard = ProcessGuard()
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as task_group:
            try:
                yield SkillContext(workspace, environment, task_group, Launcher(guard), timeouts)
            except Exception as error:  # noqa: BLE001 -- raised again below, not in a group
                failure = error
    finally:
        await guard.close()
    if failure is not None:
        raise failure
