"""A door between the test's thread and the server's."""

import asyncio  # noqa: TID251 - only its loop can be woken from another thread without blocking
import threading
from collections.abc import Callable


class Gate:
    """Closed at first; `open` lets everyone through who waits or comes later, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._wake: list[Callable[[], object]] = []

    @property
    def is_open(self) -> bool:
        """Whether the gate was opened."""
        return self._is_open

    def open(self) -> None:
        """Let everyone through; a second call changes nothing."""
        with self._lock:
            self._is_open = True
            wake, self._wake = self._wake, []
        for call in wake:
            call()

    async def wait(self) -> None:
        """Return once the gate is open."""
        loop = asyncio.get_running_loop()
        passed = asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(passed.set)

        with self._lock:
            if self._is_open:
                return
            self._wake.append(wake)
        await passed.wait()
