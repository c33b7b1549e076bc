"""What has changed, and who is told: each principal's clients of their own jobs only."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal
from weakref import WeakValueDictionary

import anyio
from mcp.shared.subscriptions import ResourcesListChanged, ServerEvent

from perstack.definition.model import Definitions
from perstack.server.changes.look import Look
from perstack.server.changes.subscriber import EXPERTS, INTERVAL_SECONDS, JOBS, Subscriber
from perstack.server.reading.addresses import of_job

DEFINITIONS = "perstack://definitions"
DELIVERIES = "deliveries"
"""Where in the server's life the task group stands in which clients are told."""

CLOSING_SECONDS = 0.3
LOOK_SECONDS = 2.0

JobNews = Literal["began", "moved", "stopped"]
"""What happened to a job: it is new, it is not where it was, or it is not driven any more."""

Surface = Callable[[Definitions], object]
"""What clients see of definitions in one list; equal if they see no difference."""


class Changes:
    """Takes in what changes and passes it on to the clients that want to know.

    Args:
        interval: Seconds before a client is told of the same thing again.
        look_seconds: Between two looks at the jobs that other processes drive.
    """

    def __init__(
        self, *, interval: float = INTERVAL_SECONDS, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self.interval = interval
        self.look_seconds = look_seconds
        self._audiences: dict[str, set[Subscriber]] = {}
        self._guests: Counter[str] = Counter()
        self._left = anyio.Event()
        self._driven: set[tuple[str, str]] = set()
        self._looks: WeakValueDictionary[str, Look] = WeakValueDictionary()
        self._surfaces: list[tuple[ServerEvent, Surface]] = []

    def add_surface(self, event: ServerEvent, surface: Surface) -> None:
        """Have clients told `event` when new definitions make `surface` another."""
        self._surfaces.append((event, surface))

    def count(self, principal: str) -> int:
        """How many clients of a principal are told."""
        return len(self._audiences.get(principal, ()))

    def count_guests(self, principal: str) -> int:
        """How many of them are so within the context of `joined`."""
        return self._guests[principal]

    def join(self, principal: str, subscriber: Subscriber) -> None:
        """Tell a client of a principal from now on."""
        self._audiences.setdefault(principal, set()).add(subscriber)

    def leave(self, principal: str, subscriber: Subscriber) -> None:
        """Tell it no more."""
        audience = self._audiences.get(principal, set())
        audience.discard(subscriber)
        if not audience:
            self._audiences.pop(principal, None)
        self._left.set()

    @contextmanager
    def joined(self, principal: str, subscriber: Subscriber) -> Generator[None]:
        """Tell a client within the context."""
        self.join(principal, subscriber)
        self._guests[principal] += 1
        try:
            yield
        finally:
            self._guests[principal] -= 1
            if not self._guests[principal]:
                del self._guests[principal]
            self.leave(principal, subscriber)

    def definitions_changed(self, old: Definitions, new: Definitions) -> None:
        """Tell everyone what an edit of the definition file means to them."""
        events = [event for event, shown in self._surfaces if shown(old) != shown(new)]
        for subscriber in self._everyone():
            for event in events:
                subscriber.tell(event)
            subscriber.tell_of(DEFINITIONS)
            subscriber.tell_of(EXPERTS)

    def job_changed(self, principal: str, job_id: str, news: JobNews) -> None:
        """Tell the clients of a principal that one of their jobs has moved on."""
        if news == "stopped":
            self._driven.discard((principal, job_id))
        else:
            self._driven.add((principal, job_id))
        for subscriber in tuple(self._audiences.get(principal, ())):
            subscriber.tell_of(of_job("job", job_id).uri)
            subscriber.tell_of(JOBS)
            if news == "began" and subscriber.sees_jobs:
                subscriber.tell(ResourcesListChanged())

    def is_driven_here(self, principal: str, job_id: str) -> bool:
        """Whether a job is at work in this process, which tells of it by itself."""
        return (principal, job_id) in self._driven

    def look(self, principal: str) -> Look:
        """The look at the jobs of a principal, shared by all who hold it at the same time."""
        return self._looks.setdefault(principal, Look(self.look_seconds / 2))

    async def close(self, seconds: float = CLOSING_SECONDS) -> None:
        """Have everyone told what is left, and nothing more; what takes longer is given up."""
        for subscriber in self._everyone():
            subscriber.close()
        with anyio.move_on_after(seconds):
            while self._audiences:
                self._left = anyio.Event()
                await self._left.wait()

    @asynccontextmanager
    async def deliveries(self, _server: object) -> AsyncGenerator[dict[str, Any]]:
        """A server's life, in which the clients of the handshake era are told in tasks of it."""
        async with anyio.create_task_group() as tasks:
            yield {DELIVERIES: tasks}
            tasks.cancel_scope.cancel()

    def _everyone(self) -> list[Subscriber]:
        return [subscriber for audience in self._audiences.values() for subscriber in audience]
