"""An event loop in which no sleep takes any time, so that hours pass in milliseconds."""

import asyncio  # noqa: TID251 - anyio has no loop of its own that could be replaced
import selectors

import anyio


class _JumpingSelector(selectors.DefaultSelector):
    """Where nothing happens, time jumps to what is due next."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout + 1e-6
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in which no sleep takes any time, and all end in their order."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class LoopClock:
    """The time of the loop. Each reading is later than the last, so that events have an order."""

    def __init__(self) -> None:
        self._last = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        self._last = max(self._last + 1, int(asyncio.get_running_loop().time() * 1000))
        return self._last

    async def sleep(self, seconds: float) -> None:
        """Let others work meanwhile."""
        await anyio.sleep(seconds)
