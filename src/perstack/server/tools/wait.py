"""Waiting for a job on behalf of a request, with signs of life."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ObjectReceiveStream

from perstack.jobs import JobEvent, JobHandle, JobView
from perstack.server.caller import Caller
from perstack.server.summaries import progress_message

if TYPE_CHECKING:
    from perstack.engine import Engine

ProgressCallback = Callable[[float, str], Awaitable[None]]
"""Sends one progress notification: a value that only grows, and a line for people."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """How often something is done while a request waits, in seconds.

    Attributes:
        heartbeat_seconds: Longest silence between two progress notifications.
        poll_seconds: Between two looks at a job that another process drives.
    """

    heartbeat_seconds: float = 10.0
    poll_seconds: float = 1.0


@dataclass(slots=True)
class ProgressReporter:
    """The progress notifications of one request."""

    callback: ProgressCallback
    heartbeat_seconds: float
    line: str = "waiting"
    count: int = 0
    started_at: float = field(default_factory=anyio.current_time)
    last_sent_at: float = field(default_factory=anyio.current_time)

    @property
    def next_heartbeat(self) -> float:
        """When the next heartbeat is due."""
        return self.last_sent_at + self.heartbeat_seconds

    async def report(self, line: str) -> None:
        """Something happened."""
        self.line = line
        await self._send(line)

    async def heartbeat(self) -> None:
        """Nothing happened, but the job is alive."""
        await self._send(f"{self.line} ({anyio.current_time() - self.started_at:.0f} s)")

    async def _send(self, message: str) -> None:
        self.count += 1
        self.last_sent_at = anyio.current_time()
        await self.callback(self.count, message)


async def wait_for_job(job: JobHandle, seconds: float, progress: ProgressReporter) -> JobView:
    """How a job stands once it has stopped or asks the user, or after `seconds`.

    Raises:
        PerstackError: It could not be begun, or its store failed.
    """
    deadline = anyio.current_time() + seconds
    while True:
        with job.watch() as events, anyio.move_on_at(deadline):
            await _report_events(job, events, progress)
        view = await job.wait(0)
        is_settled = view.job.status != "running" or view.questions
        if is_settled or anyio.current_time() >= deadline:
            return view  # else its question was answered just now


async def wait_by_id(
    engine: "Engine",
    job_id: str,
    seconds: float,
    progress: ProgressReporter,
    poll_seconds: float,
) -> JobView:
    """The same for a job of which only the id is known, whoever drives it.

    Raises:
        NotFoundError: There is no such job.
        PerstackError: It could not be begun, or its store failed.
    """
    running_job = engine.running(job_id)
    if running_job is not None:
        return await wait_for_job(running_job, seconds, progress)
    return await wait_for_remote_job(engine, job_id, seconds, progress, poll_seconds)


async def wait_for_remote_job(
    engine: "Engine",
    job_id: str,
    seconds: float,
    progress: ProgressReporter,
    poll_seconds: float,
) -> JobView:
    """The same for a job that this process does not drive.

    Raises:
        NotFoundError: There is no such job.
        StoreError: The store cannot be read.
    """
    deadline = anyio.current_time() + seconds
    view = await engine.job(job_id)
    while view.job.status == "running" and anyio.current_time() < deadline:
        await anyio.sleep(min(poll_seconds, deadline - anyio.current_time()))
        if anyio.current_time() >= progress.next_heartbeat:
            await progress.heartbeat()
        view = await engine.job(job_id)
    return view


async def _report_events(
    job: JobHandle, events: ObjectReceiveStream[JobEvent], progress: ProgressReporter
) -> None:
    while not job.open_questions:
        line: str | None = None
        with anyio.CancelScope(deadline=progress.next_heartbeat) as quiet:
            try:
                event, _checkpoint = await events.receive()
            except anyio.EndOfStream:
                return
            line = progress_message(event)
        if line is not None:
            await progress.report(line)
        elif quiet.cancelled_caught:
            await progress.heartbeat()


DEFAULT_WAIT_SECONDS = 45.0
"""Every client is known to wait this long."""

TASK_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ClientTimeout:
    """How long the calls of one client may wait, in seconds.

    Attributes:
        name_prefix: How the name begins that the client gives itself.
        local_seconds: If it has started the server.
        remote_seconds: If it talks to the server over HTTP.
    """

    name_prefix: str
    local_seconds: float
    remote_seconds: float


CLIENT_TIMEOUTS = (
    # Gives up after 30 minutes without a sign of life; over HTTP after 5.
    ClientTimeout("claude-code", local_seconds=1500, remote_seconds=240),
    # Gives up after 5 minutes, whatever it hears.
    ClientTimeout("codex", local_seconds=240, remote_seconds=240),
    # Give up after 10 minutes, whatever they hear.
    ClientTimeout("gemini-cli", local_seconds=540, remote_seconds=540),
    ClientTimeout("qwen", local_seconds=540, remote_seconds=540),
    # Gives up a minute after the last sign of life.
    ClientTimeout("opencode", local_seconds=300, remote_seconds=300),
)
"""The clients that are known to wait longer than others, unless somebody has set them otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """The windows of a server, in seconds.

    Attributes:
        default_seconds: For a call that does not say it. `None` is as long as its client is known
        to allow.
        by_client: The same for the clients whose name begins so.
        grace_seconds: At most this, if the client takes a task instead.
        is_remote: Whether clients talk to the server over HTTP.
    """

    default_seconds: float | None = None
    by_client: Mapping[str, float] = field(default_factory=dict[str, float])
    grace_seconds: float = TASK_GRACE_SECONDS
    is_remote: bool = False

    @property
    def advertised_seconds(self) -> float | None:
        """What all clients can be told; `None` if it depends on who asks."""
        return None if self.by_client else self.default_seconds

    def expert_call_seconds(self, caller: Caller, requested: float | None) -> float:
        """How long a call of an expert waits that asked for this."""
        if caller.has_tasks:
            return self.grace_seconds if requested is None else min(requested, self.grace_seconds)
        return self.job_tool_seconds(caller, requested)

    def job_tool_seconds(self, caller: Caller, requested: float | None) -> float:
        """How long a call waits that looks after a job, and asked for this."""
        if requested is not None:
            return requested
        name = caller.client_name.casefold()
        if (configured := _longest_prefix_match(name, self.by_client)) is not None:
            return configured
        if self.default_seconds is not None:
            return self.default_seconds
        timeouts = {
            each.name_prefix: each.remote_seconds if self.is_remote else each.local_seconds
            for each in CLIENT_TIMEOUTS
        }
        return _longest_prefix_match(name, timeouts) or DEFAULT_WAIT_SECONDS


def _longest_prefix_match(name: str, seconds: Mapping[str, float]) -> float | None:
    # The longest name that fits says the most.
    matching = [each for each in seconds if name.startswith(each.casefold())]
    return seconds[max(matching, key=len)] if matching else None
