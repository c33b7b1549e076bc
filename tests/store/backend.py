"""One store in the hands of several owners, with a clock and deaths that the test decides."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from perstack.runtime.ports import Store
from tests.fakes import ManualClock


@dataclass
class Backend:
    open_as: Callable[[str], Awaitable[Store]]
    clock: ManualClock
    dead: set[str] = field(default_factory=set[str])
