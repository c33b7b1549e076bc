"""One store in the hands of several owners, with a clock and deaths that the test decides."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from perstack.runtime.ports import Store


@dataclass
class ManualClock:
    now: int = 1_000_000

    def now_ms(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1000)


@dataclass
class Backend:
    open_as: Callable[[str], Awaitable[Store]]
    clock: ManualClock
    dead: set[str] = field(default_factory=set[str])
