"""Opens the engine of a principal, with the office on top of it."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_thread

from perstack.definition.load import Loaded
from perstack.errors import PerstackError
from perstack.runtime.clock import SystemClock
from perstack.server.caller import LOCAL
from perstack.server.changes.changes import Changes
from perstack.server.face import Office
from perstack.server.users.limits import Admission, Limits
from perstack.server.users.premises import Opened
from perstack.server.users.recovery import RecoveringEngine, Recovery, take_up_orphans
from perstack.server.users.users import (
    Users,
    folder_of_users,
    settings_of,
    with_unfinished_jobs,
)
from perstack.settings import Parts, Settings

MakeOffice = Callable[[Any], Office]
"""Makes the office of an engine; to name the engine's type would load what it is made from."""


class Opener(Protocol):
    """What the reception asks to open engines. Satisfied by `Engines`."""

    @property
    def loaded(self) -> Loaded:
        """The definitions that engines are opened with."""
        ...

    def prepare(self) -> None:
        """Do what can be done before anyone has called.

        Raises:
            PerstackError: Nobody could be served.
        """
        ...

    def opened(self, principal: str) -> AbstractAsyncContextManager[Opened]:
        """The engine of a principal, closed when the context is left.

        Raises:
            PerstackError: It cannot be opened.
        """
        ...

    async def left_behind(self) -> tuple[str, ...]:
        """The principals whose engines have something to do before anyone calls.

        Raises:
            PerstackError: Nobody could be served.
        """
        ...

    def adopt(self, loaded: Loaded) -> None:
        """Open engines with other definitions from now on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What holds for principals and their jobs.

    Attributes:
        users: How principals are treated; `None` if nobody is asked who they are.
        limits: How much the jobs of each principal, and all jobs together, may do.
        recovery: Which jobs that were left behind go on by themselves; `None` for none.
    """

    users: Users | None = None
    limits: Limits = field(default_factory=Limits)
    recovery: Recovery | None = None


class Engines:
    """Opens engines that share the definitions, and nothing else.

    Args:
        settings: For all of them.
        loaded: The definition file.
        make_office: Makes what answers requests on top of an engine.
        terms: What holds for principals and their jobs.
        changes: Told of what the jobs of a principal do.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        make_office: MakeOffice,
        *,
        terms: Terms | None = None,
        changes: Changes | None = None,
    ) -> None:
        terms = terms or Terms()
        # Whoever calls can answer what skill servers ask: by a form, or with another call.
        self._settings = replace(settings, is_attended=True)
        self._loaded = loaded
        self._make_office = make_office
        self._users = terms.users
        self._changes = changes or Changes()
        self._recovery = terms.recovery
        self._clock = SystemClock()
        self._parts = Parts(admit=Admission(terms.limits, self._clock).admit)

    @property
    def loaded(self) -> Loaded:
        """The definitions that engines are opened with."""
        return self._loaded

    def adopt(self, loaded: Loaded) -> None:
        """Open engines with other definitions from now on."""
        self._loaded = loaded

    def prepare(self) -> None:
        """Make the folder that holds those of the principals.

        Raises:
            ConfigError: It cannot be made or written.
        """
        if self._users is not None:
            folder_of_users(self._settings, self._users, self._loaded.path)

    @asynccontextmanager
    async def opened(self, principal: str) -> AsyncGenerator[Opened]:
        """The engine of a principal, closed when the context is left.

        Raises:
            PerstackError: It cannot be opened.
        """
        # Here and not above: this is what a client shall not wait for that wants to know the tools.
        from perstack.engine import open_engine  # noqa: PLC0415 - see above

        settings = self._settings_of(principal)
        loaded = self._loaded
        async with open_engine(settings, self._parts, loaded) as engine:
            if self._loaded is not loaded:
                await engine.adopt(self._loaded)
            engine.observe(partial(self._changes.job_changed, principal))
            yield Opened(engine, self._make_office(engine), self._recover(engine))

    async def left_behind(self) -> tuple[str, ...]:
        """The principals whose jobs were left in the middle of their work."""
        if self._users is None or self._recovery is None:
            return ()
        folder = folder_of_users(self._settings, self._users, self._loaded.path)
        since_ms = self._recovery.since_ms(self._clock)
        return await anyio.to_thread.run_sync(with_unfinished_jobs, folder, since_ms)

    def _recover(self, engine: RecoveringEngine) -> Callable[[], Coroutine[Any, Any, None]] | None:
        if self._recovery is None:
            return None
        return partial(take_up_orphans, engine, self._recovery, self._clock)

    def _settings_of(self, principal: str) -> Settings:
        if self._users is None:
            return self._settings
        if principal == LOCAL:
            # Nobody is let in without a token; but if anyone ever were, they would find no jobs.
            raise PerstackError("Only users with a token are served here.")
        folder = folder_of_users(self._settings, self._users, self._loaded.path)
        return settings_of(self._settings, folder, principal)
