"""What clients do, whatever way they came."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from mcp_types import CallToolResult

from tests.server.harness import facts

PATIENCE_SECONDS = 40.0


@dataclass
class Noted:
    """The progress of a call."""

    lines: list[str] = field(default_factory=list[str])
    values: list[float] = field(default_factory=list[float])
    at_work: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.values.append(progress)
        self.lines.append(message or "")
        if "exec" in self.lines[-1]:
            self.at_work.set()


@dataclass(frozen=True)
class Pair:
    """Two clients of the same jobs, and the folder that the experts work in."""

    folder: Path
    first: Client
    second: Client


def gate_in(folder: Path) -> Path:
    """A file that a waiter can wait for; its name is the query."""
    return folder / f"gate-{secrets.token_hex(4)}"


async def call(
    client: Client, tool: str, noted: Noted | None = None, **given: Any
) -> CallToolResult:
    """Call a tool."""
    with anyio.fail_after(PATIENCE_SECONDS):
        result = await client.call_tool(tool, given, progress_callback=noted)
    assert isinstance(result, CallToolResult)
    return result


async def status_of(client: Client, query: str) -> tuple[str, str]:
    """The id and the status of the job with this query."""
    jobs = facts(await call(client, "perstack_jobs"))["jobs"]
    return next((job["job_id"], job["status"]) for job in jobs if job["query"] == query)


async def until_status(client: Client, query: str, wanted: Callable[[str], bool]) -> str:
    """The id of the job with this query, once its status is as wanted."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            job_id, status = await status_of(client, query)
            if wanted(status):
                return job_id
            await anyio.sleep(0.02)
