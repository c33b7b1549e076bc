"""The engine of one principal, with the office on top of it: opened when it is wanted.

If it cannot be opened, whoever wants it is told why, which is more than a client would show of a
process that died.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from logging import getLogger
from typing import Any, Protocol

import anyio

from perstack.definition.load import Loaded
from perstack.errors import PerstackError
from perstack.server.face import Activity, Office

LOG = getLogger(__name__)


class OpenEngine(Protocol):
    """What is asked of an engine beside what its office needs of it."""

    @property
    def live_job_ids(self) -> tuple[str, ...]:
        """The jobs that it drives."""
        ...

    async def warm_up(self) -> None:
        """Load what the first job would otherwise wait for."""
        ...

    async def adopt(self, loaded: Loaded) -> None:
        """Use other definitions from now on.

        Raises:
            ConfigError: Their model cannot be opened. Nothing has changed then.
        """
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """An open engine and its office; `recover` goes on with the jobs that were left behind."""

    engine: OpenEngine
    office: Office
    recover: Callable[[], Coroutine[Any, Any, None]] | None = None


class Opening(Protocol):
    """Opens the engine of a principal, and closes it when the context is left."""

    def opened(self, principal: str) -> AbstractAsyncContextManager[Opened]:
        """The engine and its office.

        Raises:
            PerstackError: It cannot be opened.
        """
        ...


class Premises:
    """Stands where the engine and the office of a principal will be.

    Args:
        principal: Whose they are.
        opening: Opens them.
        complaint: Why they could not be opened last time.

    Attributes:
        complaint: Why they cannot be opened, which the log says once and not with each attempt.
        settled: Set once they are open, or are known not to be possible to open.
        closed: Set once they are closed.
        used_at_ms: When they were last asked for.
    """

    def __init__(self, principal: str, opening: Opening, complaint: str = "") -> None:
        self.principal = principal
        self.complaint = complaint
        self.used_at_ms = 0
        self.settled = anyio.Event()
        self.closed = anyio.Event()
        self._opening = opening
        self._closing = anyio.Event()
        self._opened: Opened | None = None
        self._failure: PerstackError | None = None

    def __str__(self) -> str:
        return self.principal

    @property
    def is_open(self) -> bool:
        """Whether calls can be answered."""
        return self._opened is not None

    @property
    def is_closing(self) -> bool:
        """Whether they serve no longer, or never could."""
        return self._closing.is_set() or self.closed.is_set()

    @property
    def has_live_jobs(self) -> bool:
        """Whether the engine is open and drives a job."""
        return self._opened is not None and bool(self._opened.engine.live_job_ids)

    async def office(self) -> Office:
        """The office, once it is open.

        Raises:
            PerstackError: It cannot be opened; the message says why.
        """
        await self.settled.wait()
        if self._opened is None:
            raise self._failure or PerstackError("perstack is shutting down.")
        return self._opened.office

    async def adopt(self, loaded: Loaded) -> None:
        """Have the engine use other definitions from now on, if it is open.

        Raises:
            ConfigError: Their model cannot be opened. Nothing has changed then.
        """
        if self._opened is not None:
            await self._opened.engine.adopt(loaded)

    async def run(self, activity: Activity) -> None:
        """Open, and stay open until `close`."""
        try:
            async with (
                self._opening.opened(self.principal) as opened,
                anyio.create_task_group() as tasks,
            ):
                self._opened = opened
                self.complaint = ""
                self.settled.set()
                tasks.start_soon(_warm_up, opened.engine, activity)
                if opened.recover is not None:
                    tasks.start_soon(opened.recover)
                await self._closing.wait()
                tasks.cancel_scope.cancel()
        except PerstackError as error:
            if str(error) != self.complaint:
                LOG.error("perstack: %s", error)  # noqa: TRY400 - the text says it all
            self.complaint = str(error)
            self._failure = error
        except Exception as error:  # one principal's trouble must not end the others
            LOG.exception("perstack: the engine of %s failed", self.principal)
            self._failure = PerstackError(f"Internal error: {type(error).__name__}.")
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Serve nobody any more, or not even begin to."""
        self._opened = None
        self.settled.set()
        self.closed.set()

    def close(self) -> None:
        """Stop all jobs, resumable, and close the engine; `closed` says when that is done."""
        self._closing.set()


async def _warm_up(engine: OpenEngine, activity: Activity) -> None:
    """Load the rest while nobody waits; a call that comes first loads it itself."""
    await activity.idle.wait()
    try:
        await engine.warm_up()
    except Exception:  # a call will meet the same failure and report it
        LOG.warning("The model could not be made ready.", exc_info=True)
