"""The machine's clock, for whoever is not given another one."""

import time

import anyio


class SystemClock:
    """Satisfies the `Clock` port with the time of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)
