"""A look at the jobs of one principal, which serves all of their clients."""

import math
from collections.abc import Awaitable, Callable, Mapping

import anyio

from perstack.server.reading.documents import JobEntry

Seen = Mapping[str, JobEntry]
Find = Callable[[], Awaitable[Seen | None]]
"""Looks at the jobs, by their ids; `None` if that cannot be done."""


class Look:
    """What was seen last, and is not looked up again while it is new.

    Args:
        fresh_seconds: How long it is.
    """

    def __init__(self, fresh_seconds: float) -> None:
        self._fresh_seconds = fresh_seconds
        self._seen: Seen | None = None
        self._seen_at = -math.inf
        self._one_at_a_time = anyio.Lock()

    async def seen(self, find: Find) -> Seen | None:
        """What there is to see."""
        async with self._one_at_a_time:
            if anyio.current_time() - self._seen_at >= self._fresh_seconds:
                self._seen = await find()
                self._seen_at = anyio.current_time()
            return self._seen
