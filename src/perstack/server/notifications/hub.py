"""Notifies clients of changes: of definitions all clients, of jobs those of their principal."""

import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakValueDictionary

import anyio
from mcp.shared.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent

from perstack.definition.model import Definitions
from perstack.jobs import JobChange
from perstack.server.resources.uris import job_uri
from perstack.server.summaries import JobEntry

MAX_URIS = 256
MIN_INTERVAL_SECONDS = 1.0
"""Between two notifications of the same change."""

POLL_SECONDS = 2.0
CLOSE_TIMEOUT_SECONDS = 0.3
DEFINITIONS_URI = "perstack://definitions"
EXPERTS_URI = "perstack://experts"
JOBS_URI = "perstack://jobs"
DELIVERY_TASKS_KEY = "deliveries"
"""The key of the task group for deliveries in the lifespan context of the server."""

SendEvent = Callable[[ServerEvent], Awaitable[None]]
JobSnapshot = Mapping[str, JobEntry]
"""Jobs by id."""

FetchJobs = Callable[[], Awaitable[JobSnapshot | None]]
"""Reads the jobs; `None` if they cannot be read."""

ListProjection = Callable[[Definitions], object]
"""What a list shows of definitions; equal for two sets if the list has not changed."""


def topic_of(uri: str) -> str:
    """The unit that changes with a resource: a job, all experts, or the resource itself.

    All resources below a job change with it, as do all pages of one list.
    """
    path = uri.partition("?")[0]
    if path.startswith(f"{EXPERTS_URI}/"):
        return EXPERTS_URI
    if path.startswith(f"{JOBS_URI}/"):
        job_id = path.removeprefix(f"{JOBS_URI}/").partition("/")[0]
        return f"{JOBS_URI}/{job_id}"
    return path


def concerns_jobs(topic: str) -> bool:
    """Whether a topic is about jobs, which belong to one principal."""
    return topic == JOBS_URI or topic.startswith(JOBS_URI + "/")


class Subscriber:
    """The pending notifications of one client.

    An event says only that something has changed and should be read again. So a pending event also
    covers later changes, which bounds the queue by the number of subscriptions.

    Args:
        accepts: Whether the client subscribed to the event of a list.
        can_see_jobs: Whether it may read jobs.
        interval: Seconds between two sends of the same event.
    """

    def __init__(
        self,
        accepts: Callable[[ServerEvent], bool],
        *,
        can_see_jobs: bool = True,
        interval: float = MIN_INTERVAL_SECONDS,
    ) -> None:
        self.can_see_jobs = can_see_jobs
        self.follows_jobs = anyio.Event()  # set while it follows a resource of jobs
        self._accepts = accepts
        self._interval = interval
        self._topics: dict[str, str] = {}
        self._pending: dict[ServerEvent, None] = {}
        self._quiet_until: dict[ServerEvent, float] = {}
        self._wake = anyio.Event()
        self._is_closed = False

    @property
    def uri_count(self) -> int:
        return len(self._topics)

    def follow(self, uri: str) -> None:
        """Notify the client of changes of a resource from now on."""
        topic = topic_of(uri)
        if concerns_jobs(topic):
            if not self.can_see_jobs:
                return
            self.follows_jobs.set()
        self._topics[uri] = topic

    def unfollow(self, uri: str) -> None:
        """Stop what `follow` began."""
        self._topics.pop(uri, None)
        self._pending.pop(ResourceUpdated(uri), None)
        if not any(map(concerns_jobs, self._topics.values())):
            self.follows_jobs = anyio.Event()

    def notify(self, event: ServerEvent) -> None:
        """Queue the event of a list, if the client subscribed to it."""
        if self._accepts(event):
            self._enqueue(event)

    def notify_topic(self, topic: str) -> None:
        """Queue events for the followed resources of a topic."""
        for uri, followed_topic in self._topics.items():
            if followed_topic == topic:
                self._enqueue(ResourceUpdated(uri))

    def close(self) -> None:
        """Make `deliver` return after it has sent what is pending."""
        self._is_closed = True
        self._wake.set()

    async def deliver(self, send: SendEvent) -> None:
        """Send events as they are queued, until `close`."""
        while True:
            now = anyio.current_time()
            due = self._due(now)
            for event in due:
                if event not in self._pending:
                    continue  # its resource was unfollowed during an earlier `send`
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


class JobListCache:
    """The newest jobs of one principal, read again after `ttl_seconds`."""

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds
        self._snapshot: JobSnapshot | None = None
        self._fetched_at = -math.inf
        self._lock = anyio.Lock()

    async def get(self, fetch: FetchJobs) -> JobSnapshot | None:
        """The jobs, from `fetch` if they have expired."""
        async with self._lock:
            if anyio.current_time() - self._fetched_at >= self._ttl_seconds:
                self._snapshot = await fetch()
                self._fetched_at = anyio.current_time()
            return self._snapshot


class NotificationHub:
    """Distributes changes to the subscribed clients.

    Args:
        interval: Seconds between two notifications of the same change.
        poll_seconds: Between two polls for jobs that other processes drive.
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
        """Send `event` when an edit of the definitions changes the value of `projection`."""
        self._projections.append((event, projection))

    def count_subscribers(self, principal: str) -> int:
        return len(self._subscribers.get(principal, ()))

    def count_streams(self, principal: str) -> int:
        """The number of open `subscription` contexts of a principal."""
        return self._stream_counts[principal]

    def subscribe(self, principal: str, subscriber: Subscriber) -> None:
        """Notify a client of a principal from now on."""
        self._subscribers.setdefault(principal, set()).add(subscriber)

    def unsubscribe(self, principal: str, subscriber: Subscriber) -> None:
        subscribers = self._subscribers.get(principal, set())
        subscribers.discard(subscriber)
        if not subscribers:
            self._subscribers.pop(principal, None)
        self._subscriber_left.set()

    @contextmanager
    def subscription(self, principal: str, subscriber: Subscriber) -> Generator[None]:
        """Notify a client within the context."""
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
        """Notify all clients of an edit of the definition file, or of its problems."""
        events = [
            event for event, projection in self._projections if projection(old) != projection(new)
        ]
        for subscriber in self._all_subscribers():
            for event in events:
                subscriber.notify(event)
            subscriber.notify_topic(DEFINITIONS_URI)
            subscriber.notify_topic(EXPERTS_URI)

    def job_changed(self, principal: str, job_id: str, change: JobChange) -> None:
        """Notify the clients of a principal of a change of one of its jobs."""
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
        """Whether this process drives a job, and so calls `job_changed` for it."""
        return (principal, job_id) in self._local_jobs

    def job_list_cache(self, principal: str) -> JobListCache:
        """The cache of a principal's jobs, shared by all that hold it at the same time."""
        return self._job_lists.setdefault(principal, JobListCache(self.poll_seconds / 2))

    async def close(self, seconds: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """End all subscriptions, waiting for pending events to be sent for at most `seconds`."""
        for subscriber in self._all_subscribers():
            subscriber.close()
        with anyio.move_on_after(seconds):
            while self._subscribers:
                self._subscriber_left = anyio.Event()
                await self._subscriber_left.wait()

    @asynccontextmanager
    async def lifespan(self, _server: object) -> AsyncGenerator[dict[str, Any]]:
        """The server's lifespan: a task group for deliveries to clients of the handshake era."""
        async with anyio.create_task_group() as tasks:
            yield {DELIVERY_TASKS_KEY: tasks}
            tasks.cancel_scope.cancel()

    def _all_subscribers(self) -> list[Subscriber]:
        return [
            subscriber for subscribers in self._subscribers.values() for subscriber in subscribers
        ]
