"""Waits for a job on behalf of a request, with progress notifications."""

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
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
"""Sends one progress notification: a value that only grows, and a message."""


@dataclass(frozen=True, slots=True)
class PollSettings:
    """Intervals while a request waits.

    Attributes:
        heartbeat_seconds: Longest time between two progress notifications.
        poll_seconds: Between two reads of a job that another process drives.
    """

    heartbeat_seconds: float = 10.0
    poll_seconds: float = 1.0


@dataclass(slots=True)
class WaitBudget:
    """The seconds that a call may still wait for its job."""

    remaining_seconds: float

    @contextmanager
    def spend(self) -> Generator[float]:
        """Yield what is left, and subtract the time that the context takes."""
        started_at = anyio.current_time()
        try:
            yield self.remaining_seconds
        finally:
            elapsed = anyio.current_time() - started_at
            self.remaining_seconds = max(0.0, self.remaining_seconds - elapsed)


@dataclass(slots=True)
class ProgressReporter:
    """The progress notifications of one request."""

    callback: ProgressCallback
    poll_settings: PollSettings
    line: str = "waiting"
    count: int = 0
    started_at: float = field(default_factory=anyio.current_time)
    last_sent_at: float = field(default_factory=anyio.current_time)

    @property
    def next_heartbeat(self) -> float:
        """When the next heartbeat is due."""
        return self.last_sent_at + self.poll_settings.heartbeat_seconds

    async def report(self, line: str) -> None:
        """Send a notification of an event."""
        self.line = line
        await self._send(line)

    async def heartbeat(self) -> None:
        """Repeat the last line, with the time since the beginning."""
        await self._send(f"{self.line} ({anyio.current_time() - self.started_at:.0f} s)")

    async def _send(self, message: str) -> None:
        self.count += 1
        self.last_sent_at = anyio.current_time()
        await self.callback(self.count, message)


async def wait_for_job(job: JobHandle, seconds: float, progress: ProgressReporter) -> JobView:
    """Wait until a job of this process stops or asks the user, at most `seconds`.

    Raises:
        PerstackError: The job could not be started, or its store failed.
    """
    deadline = anyio.current_time() + seconds
    while True:
        with job.watch() as events, anyio.move_on_at(deadline):
            await _report_events(job, events, progress)
        view = await job.wait(0)
        is_settled = view.job.status != "running" or view.questions
        if is_settled or anyio.current_time() >= deadline:
            return view  # otherwise its question has just been answered


async def wait_by_id(
    engine: "Engine", job_id: str, seconds: float, progress: ProgressReporter
) -> JobView:
    """Wait until a job of any process stops or asks the user, at most `seconds`.

    Raises:
        NotFoundError: There is no such job.
        PerstackError: The job could not be started, or its store failed.
    """
    running_job = engine.running(job_id)
    if running_job is not None:
        return await wait_for_job(running_job, seconds, progress)
    deadline = anyio.current_time() + seconds
    job = await engine.summary(job_id)
    while job.status == "running" and anyio.current_time() < deadline:
        poll_seconds = progress.poll_settings.poll_seconds
        await anyio.sleep(min(poll_seconds, deadline - anyio.current_time()))
        if anyio.current_time() >= progress.next_heartbeat:
            await progress.heartbeat()
        job = await engine.summary(job_id)
    return await engine.job(job_id)


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
"""No known client gives up earlier."""

TASK_GRACE_SECONDS = 5.0


CLIENT_SECONDS: Mapping[str, float] = {
    # Times out after 30 minutes without a notification; over HTTP after 5.
    "claude-code": 1500,
    # Times out after 5 minutes, with or without notifications.
    "codex": 240,
    # Time out after 10 minutes, with or without notifications.
    "gemini-cli": 540,
    "qwen": 540,
    # Times out a minute after the last notification.
    "opencode": 300,
}
"""Waits for clients with a longer timeout, by the beginning of the client's name for itself."""

REMOTE_CLIENT_SECONDS: Mapping[str, float] = {**CLIENT_SECONDS, "claude-code": 240}
"""The same over HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPolicy:
    """How long calls wait for their jobs before they return status `running`.

    Attributes:
        default_seconds: For a call without `wait_seconds`; `None` is what its client is known to
            allow.
        by_client: Defaults for clients, by the beginning of the client's name.
        grace_seconds: Maximum for clients that accept a task instead of a result.
        is_remote: Whether clients connect over HTTP.
    """

    default_seconds: float | None = None
    by_client: Mapping[str, float] = field(default_factory=dict[str, float])
    grace_seconds: float = TASK_GRACE_SECONDS
    is_remote: bool = False

    @property
    def advertised_seconds(self) -> float | None:
        """The default of all clients; `None` if it differs between them."""
        return None if self.by_client else self.default_seconds

    def expert_call_seconds(self, caller: Caller, requested: float | None) -> float:
        """How long a call of an expert's tool waits; `requested` is its `wait_seconds`."""
        if caller.has_tasks:
            return self.grace_seconds if requested is None else min(requested, self.grace_seconds)
        return self.job_tool_seconds(caller, requested)

    def job_tool_seconds(self, caller: Caller, requested: float | None) -> float:
        """How long a call of a job tool waits; `requested` is its `wait_seconds`."""
        if requested is not None:
            return requested
        name = caller.client_name.casefold()
        if (configured := _longest_prefix_match(name, self.by_client)) is not None:
            return configured
        if self.default_seconds is not None:
            return self.default_seconds
        by_client = REMOTE_CLIENT_SECONDS if self.is_remote else CLIENT_SECONDS
        return _longest_prefix_match(name, by_client) or DEFAULT_WAIT_SECONDS


def _longest_prefix_match(name: str, seconds: Mapping[str, float]) -> float | None:
    matching = [each for each in seconds if name.startswith(each.casefold())]
    return seconds[max(matching, key=len)] if matching else None
