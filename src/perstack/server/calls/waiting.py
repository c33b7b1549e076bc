"""Waiting for a job on behalf of a request, with signs of life."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio

from perstack.jobs import JobView
from perstack.server.calls.progress import progress_message
from perstack.server.port import Events, ServedEngine, ServedJob

Report = Callable[[float, str], Awaitable[None]]
"""Sends one progress notification: a value that only grows, and a line for people."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often something is done while a request waits, in seconds.

    Attributes:
        heartbeat_seconds: Longest silence between two progress notifications.
        poll_seconds: Between two looks at a job that another process drives.
    """

    heartbeat_seconds: float = 10.0
    poll_seconds: float = 1.0


@dataclass(slots=True)
class Progress:
    """The progress notifications of one request."""

    report: Report
    heartbeat_seconds: float
    line: str = "waiting"
    count: int = 0
    began: float = field(default_factory=anyio.current_time)
    latest: float = field(default_factory=anyio.current_time)

    @property
    def next_beat(self) -> float:
        """When the next heartbeat is due."""
        return self.latest + self.heartbeat_seconds

    async def tell(self, line: str) -> None:
        """Something happened."""
        self.line = line
        await self._send(line)

    async def beat(self) -> None:
        """Nothing happened, but the job is alive."""
        await self._send(f"{self.line} ({anyio.current_time() - self.began:.0f} s)")

    async def _send(self, message: str) -> None:
        self.count += 1
        self.latest = anyio.current_time()
        await self.report(self.count, message)


async def wait_for(job: ServedJob, seconds: float, progress: Progress) -> JobView:
    """How a job stands once it has stopped or asks the user, or after `seconds`.

    Raises:
        PerstackError: It could not be begun, or its store failed.
    """
    deadline = anyio.current_time() + seconds
    while True:
        with job.watch() as events, anyio.move_on_at(deadline):
            await _relay(job, events, progress)
        view = await job.wait(0)
        is_settled = view.job.status != "running" or view.questions
        if is_settled or anyio.current_time() >= deadline:
            return view  # else its question was answered just now


async def follow(
    engine: ServedEngine, job_id: str, seconds: float, progress: Progress, poll_seconds: float
) -> JobView:
    """The same for a job of which only the id is known, whoever drives it.

    Raises:
        NotFoundError: There is no such job.
        PerstackError: It could not be begun, or its store failed.
    """
    live = engine.running(job_id)
    if live is not None:
        return await wait_for(live, seconds, progress)
    return await wait_elsewhere(engine, job_id, seconds, progress, poll_seconds)


async def wait_elsewhere(
    engine: ServedEngine, job_id: str, seconds: float, progress: Progress, poll_seconds: float
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
        if anyio.current_time() >= progress.next_beat:
            await progress.beat()
        view = await engine.job(job_id)
    return view


async def _relay(job: ServedJob, events: Events, progress: Progress) -> None:
    while not job.open_questions:
        line: str | None = None
        with anyio.CancelScope(deadline=progress.next_beat) as quiet:
            try:
                event, _checkpoint = await events.receive()
            except anyio.EndOfStream:
                return
            line = progress_message(event)
        if line is not None:
            await progress.tell(line)
        elif quiet.cancelled_caught:
            await progress.beat()
