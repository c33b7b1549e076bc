"""What has changed, and who is told: each principal's clients of their own jobs only."""

import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal
from weakref import WeakValueDictionary

import anyio
from mcp.shared.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent

from perstack.definition.model import Definitions
from perstack.server.resources.uris import job_uri
from perstack.server.summaries import JobEntry

MIN_INTERVAL_SECONDS = 1.0
"""A change of the same thing is told again after this time at the earliest."""

MAX_URIS = 256
JOBS_URI = "perstack://jobs"
EXPERTS_URI = "perstack://experts"

SendEvent = Callable[[ServerEvent], Awaitable[None]]


def topic_of(uri: str) -> str:
    """What changes when a resource does: a job, all experts, or the resource itself.

    What hangs below a job changes with it, and so do all pages of one list.
    """
    path = uri.partition("?")[0]
    for root, depth in ((JOBS_URI, 1), (EXPERTS_URI, 0)):
        if path.startswith(root + "/"):
            segments = path.removeprefix(root + "/").split("/")[:depth]
            return "/".join((root, *segments))
    return path


def concerns_jobs(topic: str) -> bool:
    """Whether it is about jobs, and so about one principal."""
    return topic == JOBS_URI or topic.startswith(JOBS_URI + "/")


class Subscriber:
    """What one client has not been told yet.

    Each event says only that something has changed and should be read again. So what happens while
    an event waits is told by that event, and no client can have more to be told than it asked for.

    Args:
        accepts: Whether it wants events of a list; resources are followed one by one.
        can_see_jobs: Whether it may know of jobs.
        interval: Seconds before the same event is sent again.

    Attributes:
        follows_jobs: Set while it follows any resource of jobs.
    """

    def __init__(
        self,
        accepts: Callable[[ServerEvent], bool],
        *,
        can_see_jobs: bool = True,
        interval: float = MIN_INTERVAL_SECONDS,
    ) -> None:
        self.can_see_jobs = can_see_jobs
        self.follows_jobs = anyio.Event()
        self._accepts = accepts
        self._interval = interval
        self._followed_uris: dict[str, set[str]] = {}
        self._pending: dict[ServerEvent, None] = {}
        self._quiet_until: dict[ServerEvent, float] = {}
        self._wake = anyio.Event()
        self._is_closed = False

    @property
    def uri_count(self) -> int:
        """How many resources it follows."""
        return sum(len(uris) for uris in self._followed_uris.values())

    def follow(self, uri: str) -> None:
        """Tell of changes of a resource from now on."""
        topic = topic_of(uri)
        if concerns_jobs(topic):
            if not self.can_see_jobs:
                return
            self.follows_jobs.set()
        self._followed_uris.setdefault(topic, set()).add(uri)

    def unfollow(self, uri: str) -> None:
        """Tell no more of changes of a resource."""
        topic = topic_of(uri)
        uris = self._followed_uris.get(topic, set())
        uris.discard(uri)
        if not uris:
            self._followed_uris.pop(topic, None)
        self._pending.pop(ResourceUpdated(uri), None)
        if not any(map(concerns_jobs, self._followed_uris)):
            self.follows_jobs = anyio.Event()

    def notify(self, event: ServerEvent) -> None:
        """Note an event of a list, if it is wanted."""
        if self._accepts(event):
            self._enqueue(event)

    def notify_topic(self, topic: str) -> None:
        """Note that the resources of a topic have changed, if any is followed."""
        for uri in self._followed_uris.get(topic, ()):
            self._enqueue(ResourceUpdated(uri))

    def close(self) -> None:
        """Have `deliver` return once what is noted has been sent."""
        self._is_closed = True
        self._wake.set()

    async def deliver(self, send: SendEvent) -> None:
        """Send what there is to tell, as it comes, until `close`."""
        while True:
            now = anyio.current_time()
            due = self._due(now)
            for event in due:
                del self._pending[event]
                self._quiet_until[event] = now + self._interval
                await send(event)
            if due:
                continue
            if self._is_closed:
                return
            self._wake = anyio.Event()
            next_due = min((self._quiet_until[event] for event in self._pending), default=math.inf)
            with anyio.move_on_after(next_due - now):
                await self._wake.wait()

    def _due(self, now: float) -> list[ServerEvent]:
        self._quiet_until = {event: at for event, at in self._quiet_until.items() if at > now}
        if self._is_closed:
            return list(self._pending)
        return [event for event in self._pending if event not in self._quiet_until]

    def _enqueue(self, event: ServerEvent) -> None:
        self._pending[event] = None
        self._wake.set()


JobSnapshot = Mapping[str, JobEntry]
FetchJobs = Callable[[], Awaitable[JobSnapshot | None]]
"""Looks at the jobs, by their ids; `None` if that cannot be done."""


class JobListCache:
    """What was seen last, and is not looked up again while it is new.

    Args:
        ttl_seconds: How long it is.
    """

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds
        self._snapshot: JobSnapshot | None = None
        self._fetched_at = -math.inf
        self._lock = anyio.Lock()

    async def get(self, fetch: FetchJobs) -> JobSnapshot | None:
        """What there is to see."""
        async with self._lock:
            if anyio.current_time() - self._fetched_at >= self._ttl_seconds:
                self._snapshot = await fetch()
                self._fetched_at = anyio.current_time()
            return self._snapshot


DEFINITIONS_URI = "perstack://definitions"
DELIVERY_TASKS_KEY = "deliveries"
"""Where in the server's life the task group stands in which clients are told."""

CLOSE_TIMEOUT_SECONDS = 0.3
POLL_SECONDS = 2.0

JobChange = Literal["began", "moved", "stopped"]
"""What happened to a job: it is new, it is not where it was, or it is not driven any more."""

ListProjection = Callable[[Definitions], object]
"""What clients see of definitions in one list; equal if they see no difference."""


class NotificationHub:
    """Takes in what changes and passes it on to the clients that want to know.

    Args:
        interval: Seconds before a client is told of the same thing again.
        poll_seconds: Between two looks at the jobs that other processes drive.
    """

    def __init__(
        self, *, interval: float = MIN_INTERVAL_SECONDS, poll_seconds: float = POLL_SECONDS
    ) -> None:
        self.interval = interval
        self.poll_seconds = poll_seconds
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._stream_counts: Counter[str] = Counter()
        self._subscriber_left = anyio.Event()
        self._local_jobs: set[tuple[str, str]] = set()
        self._job_lists: WeakValueDictionary[str, JobListCache] = WeakValueDictionary()
        self._projections: list[tuple[ServerEvent, ListProjection]] = []

    def add_list_projection(self, event: ServerEvent, projection: ListProjection) -> None:
        """Have clients told `event` when new definitions make `projection` another."""
        self._projections.append((event, projection))

    def count_subscribers(self, principal: str) -> int:
        """How many clients of a principal are told."""
        return len(self._subscribers.get(principal, ()))

    def count_streams(self, principal: str) -> int:
        """How many of them are so within the context of `joined`."""
        return self._stream_counts[principal]

    def subscribe(self, principal: str, subscriber: Subscriber) -> None:
        """Tell a client of a principal from now on."""
        self._subscribers.setdefault(principal, set()).add(subscriber)

    def unsubscribe(self, principal: str, subscriber: Subscriber) -> None:
        subscribers = self._subscribers.get(principal, set())
        subscribers.discard(subscriber)
        if not subscribers:
            self._subscribers.pop(principal, None)
        self._subscriber_left.set()

    @contextmanager
    def subscription(self, principal: str, subscriber: Subscriber) -> Generator[None]:
        """Tell a client within the context."""
        self.subscribe(principal, subscriber)
        self._stream_counts[principal] += 1
        try:
            yield
        finally:
            self._stream_counts[principal] -= 1
            if not self._stream_counts[principal]:
                del self._stream_counts[principal]
            self.unsubscribe(principal, subscriber)

    def definitions_changed(self, old: Definitions, new: Definitions) -> None:
        """Tell everyone what an edit of the definition file means to them."""
        events = [
            event for event, projection in self._projections if projection(old) != projection(new)
        ]
        for subscriber in self._all_subscribers():
            for event in events:
                subscriber.notify(event)
            subscriber.notify_topic(DEFINITIONS_URI)
            subscriber.notify_topic(EXPERTS_URI)

    def job_changed(self, principal: str, job_id: str, change: JobChange) -> None:
        """Tell the clients of a principal that one of their jobs has moved on."""
        if change == "stopped":
            self._local_jobs.discard((principal, job_id))
        else:
            self._local_jobs.add((principal, job_id))
        for subscriber in tuple(self._subscribers.get(principal, ())):
            subscriber.notify_topic(job_uri("job", job_id).text)
            subscriber.notify_topic(JOBS_URI)
            if change == "began" and subscriber.can_see_jobs:
                subscriber.notify(ResourcesListChanged())

    def is_local_job(self, principal: str, job_id: str) -> bool:
        """Whether a job is at work in this process, which tells of it by itself."""
        return (principal, job_id) in self._local_jobs

    def job_list_cache(self, principal: str) -> JobListCache:
        """The look at the jobs of a principal, shared by all who hold it at the same time."""
        return self._job_lists.setdefault(principal, JobListCache(self.poll_seconds / 2))

    async def close(self, seconds: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Have everyone told what is left, and nothing more; what takes longer is given up."""
        for subscriber in self._all_subscribers():
            subscriber.close()
        with anyio.move_on_after(seconds):
            while self._subscribers:
                self._subscriber_left = anyio.Event()
                await self._subscriber_left.wait()

    @asynccontextmanager
    async def lifespan(self, _server: object) -> AsyncGenerator[dict[str, Any]]:
        """A server's life, in which the clients of the handshake era are told in tasks of it."""
        async with anyio.create_task_group() as tasks:
            yield {DELIVERY_TASKS_KEY: tasks}
            tasks.cancel_scope.cancel()

    def _all_subscribers(self) -> list[Subscriber]:
        return [
            subscriber for subscribers in self._subscribers.values() for subscriber in subscribers
        ]
