"""What the server is doing, for tasks that wait until it is idle."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio


@dataclass(slots=True)
class ServerActivity:
    """The number of requests in flight that need an engine, and whether the tools were listed."""

    tools_listed: anyio.Event = field(default_factory=anyio.Event)
    idle: anyio.Event = field(default_factory=anyio.Event)
    calls_in_flight: int = 0

    def __post_init__(self) -> None:
        self.idle.set()

    @contextmanager
    def track_call(self) -> Generator[None]:
        """Count a request as in flight within the context."""
        if self.calls_in_flight == 0:
            self.idle = anyio.Event()
        self.calls_in_flight += 1
        try:
            yield
        finally:
            self.calls_in_flight -= 1
            if self.calls_in_flight == 0:
                self.idle.set()
