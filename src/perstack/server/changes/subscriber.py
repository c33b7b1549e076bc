"""One client that wants to be told of changes, by whichever way it can be told."""

import math
from collections.abc import Awaitable, Callable

import anyio
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent

INTERVAL_SECONDS = 1.0
"""A change of the same thing is told again after this time at the earliest."""

MAX_URIS = 256
JOBS = "perstack://jobs"
EXPERTS = "perstack://experts"

Send = Callable[[ServerEvent], Awaitable[None]]


def topic_of(uri: str) -> str:
    """What changes when a resource does: a job, all experts, or the resource itself.

    What hangs below a job changes with it, and so do all pages of one list.
    """
    path = uri.partition("?")[0]
    for root, depth in ((JOBS, 1), (EXPERTS, 0)):
        if path.startswith(root + "/"):
            steps = path.removeprefix(root + "/").split("/")[:depth]
            return "/".join((root, *steps))
    return path


def is_of_jobs(topic: str) -> bool:
    """Whether it is about jobs, and so about one principal."""
    return topic == JOBS or topic.startswith(JOBS + "/")


class Subscriber:
    """What one client has not been told yet.

    Each event says only that something has changed and should be read again. So what happens while
    an event waits is told by that event, and no client can have more to be told than it asked for.

    Args:
        wants: Whether it wants events of a list; resources are followed one by one.
        sees_jobs: Whether it may know of jobs.
        interval: Seconds before the same event is sent again.

    Attributes:
        follows_jobs: Set while it follows any resource of jobs.
    """

    def __init__(
        self,
        wants: Callable[[ServerEvent], bool],
        *,
        sees_jobs: bool = True,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self.sees_jobs = sees_jobs
        self.follows_jobs = anyio.Event()
        self._wants = wants
        self._interval = interval
        self._followed: dict[str, set[str]] = {}
        self._pending: dict[ServerEvent, None] = {}
        self._quiet_until: dict[ServerEvent, float] = {}
        self._wake = anyio.Event()
        self._is_closed = False

    @property
    def uri_count(self) -> int:
        """How many resources it follows."""
        return sum(len(uris) for uris in self._followed.values())

    def follow(self, uri: str) -> None:
        """Tell of changes of a resource from now on."""
        topic = topic_of(uri)
        if is_of_jobs(topic):
            if not self.sees_jobs:
                return
            self.follows_jobs.set()
        self._followed.setdefault(topic, set()).add(uri)

    def unfollow(self, uri: str) -> None:
        """Tell no more of changes of a resource."""
        topic = topic_of(uri)
        uris = self._followed.get(topic, set())
        uris.discard(uri)
        if not uris:
            self._followed.pop(topic, None)
        self._pending.pop(ResourceUpdated(uri), None)
        if not any(map(is_of_jobs, self._followed)):
            self.follows_jobs = anyio.Event()

    def tell(self, event: ServerEvent) -> None:
        """Note an event of a list, if it is wanted."""
        if self._wants(event):
            self._note(event)

    def tell_of(self, topic: str) -> None:
        """Note that the resources of a topic have changed, if any is followed."""
        for uri in self._followed.get(topic, ()):
            self._note(ResourceUpdated(uri))

    def close(self) -> None:
        """Have `deliver` return once what is noted has been sent."""
        self._is_closed = True
        self._wake.set()

    async def deliver(self, send: Send) -> None:
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
            later = min((self._quiet_until[event] for event in self._pending), default=math.inf)
            with anyio.move_on_after(later - now):
                await self._wake.wait()

    def _due(self, now: float) -> list[ServerEvent]:
        self._quiet_until = {event: at for event, at in self._quiet_until.items() if at > now}
        if self._is_closed:
            return list(self._pending)
        return [event for event in self._pending if event not in self._quiet_until]

    def _note(self, event: ServerEvent) -> None:
        self._pending[event] = None
        self._wake.set()
