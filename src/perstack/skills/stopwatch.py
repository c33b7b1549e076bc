"""The time that calls of a server may take, which stands still while the user is asked."""

from collections.abc import Generator
from contextlib import contextmanager

import anyio


class Stopwatch:
    """Limits the calls of one connection.

    Args:
        seconds: For each call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left: dict[anyio.CancelScope, float] = {}
        self._pauses = 0

    @contextmanager
    def limit(self) -> Generator[None]:
        """Entered around a call.

        Raises:
            TimeoutError: It took longer than any call may.
        """
        with anyio.fail_after(self._seconds) as scope:
            self._left[scope] = self._seconds
            if self._pauses:
                scope.deadline = float("inf")
            try:
                yield
            finally:
                del self._left[scope]

    @contextmanager
    def pause(self) -> Generator[None]:
        """Entered around a question. Which call it belongs to is not known, so all of them wait."""
        self._pauses += 1
        if self._pauses == 1:
            for scope in self._left:
                self._left[scope] = scope.deadline - anyio.current_time()
                scope.deadline = float("inf")
        try:
            yield
        finally:
            self._pauses -= 1
            if self._pauses == 0:
                for scope, seconds in self._left.items():
                    scope.deadline = anyio.current_time() + seconds
