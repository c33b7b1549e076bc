"""Opens the engine of a principal, with the office on top of it."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from logging import getLogger
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread

from perstack.definition.loader import LoadedDefinitions
from perstack.errors import PerstackError
from perstack.runtime.ports import SystemClock
from perstack.server.activity import ServerActivity
from perstack.server.caller import LOCAL_PRINCIPAL
from perstack.server.notifications.hub import NotificationHub
from perstack.server.tenants.folders import (
    TenantSettings,
    ensure_tenants_folder,
    settings_for_tenant,
    tenants_with_unfinished_jobs,
)
from perstack.server.tenants.limits import AdmissionController, JobLimits
from perstack.server.tenants.recovery import RecoveryPolicy, recover_orphans
from perstack.settings import Overrides, Settings

if TYPE_CHECKING:
    from perstack.engine import Engine
    from perstack.server.services import TenantServices

LOG = getLogger(__name__)


class ReloadableEngine(Protocol):
    """What is asked of an engine beside what its office needs of it."""

    @property
    def live_job_ids(self) -> tuple[str, ...]:
        """The jobs that it drives."""
        ...

    async def warm_up(self) -> None:
        """Load what the first job would otherwise wait for."""
        ...

    async def reload_definitions(self, loaded: LoadedDefinitions) -> None:
        """Use other definitions from now on.

        Raises:
            ConfigError: Their model cannot be opened. Nothing has changed then.
        """
        ...


@dataclass(frozen=True, slots=True)
class OpenedEngine:
    """An open engine and its office; `recover` goes on with the jobs that were left behind."""

    engine: ReloadableEngine
    services: "TenantServices"
    recover: Callable[[], Coroutine[Any, Any, None]] | None = None


class EngineOpener(Protocol):
    """Opens the engine of a principal, and closes it when the context is left."""

    def open_engine(self, principal: str) -> AbstractAsyncContextManager[OpenedEngine]:
        """The engine and its office.

        Raises:
            PerstackError: It cannot be opened.
        """
        ...


class TenantEngine:
    """Stands where the engine and the office of a principal will be.

    Args:
        principal: Whose they are.
        opener: Opens them.
        last_error: Why they could not be opened last time.

    Attributes:
        last_error: Why they cannot be opened, which the log says once and not with each attempt.
        ready: Set once they are open, or are known not to be possible to open.
        closed: Set once they are closed.
        last_used_at_ms: When they were last asked for.
    """

    def __init__(self, principal: str, opener: EngineOpener, last_error: str = "") -> None:
        self.principal = principal
        self.last_error = last_error
        self.last_used_at_ms = 0
        self.ready = anyio.Event()
        self.closed = anyio.Event()
        self._opener = opener
        self._close_requested = anyio.Event()
        self._opened: OpenedEngine | None = None
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
        return self._close_requested.is_set() or self.closed.is_set()

    @property
    def has_live_jobs(self) -> bool:
        """Whether the engine is open and drives a job."""
        return self._opened is not None and bool(self._opened.engine.live_job_ids)

    async def get_services(self) -> "TenantServices":
        """The office, once it is open.

        Raises:
            PerstackError: It cannot be opened; the message says why.
        """
        await self.ready.wait()
        if self._opened is None:
            raise self._failure or PerstackError("perstack is shutting down.")
        return self._opened.services

    async def reload_definitions(self, loaded: LoadedDefinitions) -> None:
        """Have the engine use other definitions from now on, if it is open.

        Raises:
            ConfigError: Their model cannot be opened. Nothing has changed then.
        """
        if self._opened is not None:
            await self._opened.engine.reload_definitions(loaded)

    async def run(self, activity: ServerActivity) -> None:
        """Open, and stay open until `close`."""
        try:
            async with (
                self._opener.open_engine(self.principal) as opened,
                anyio.create_task_group() as tasks,
            ):
                self._opened = opened
                self.last_error = ""
                self.ready.set()
                tasks.start_soon(_warm_up, opened.engine, activity)
                if opened.recover is not None:
                    tasks.start_soon(opened.recover)
                await self._close_requested.wait()
                tasks.cancel_scope.cancel()
        except PerstackError as error:
            if str(error) != self.last_error:
                LOG.error("perstack: %s", error)  # noqa: TRY400 - the text says it all
            self.last_error = str(error)
            self._failure = error
        except Exception as error:  # one principal's trouble must not end the others
            LOG.exception("perstack: the engine of %s failed", self.principal)
            self._failure = PerstackError(f"Internal error: {type(error).__name__}.")
        finally:
            self.mark_closed()

    def mark_closed(self) -> None:
        """Serve nobody any more, or not even begin to."""
        self._opened = None
        self.ready.set()
        self.closed.set()

    def close(self) -> None:
        """Stop all jobs, resumable, and close the engine; `closed` says when that is done."""
        self._close_requested.set()


async def _warm_up(engine: ReloadableEngine, activity: ServerActivity) -> None:
    """Load the rest while nobody waits; a call that comes first loads it itself."""
    await activity.idle.wait()
    try:
        await engine.warm_up()
    except Exception:  # a call will meet the same failure and report it
        LOG.warning("The model could not be made ready.", exc_info=True)


ServicesFactory = Callable[[Any], "TenantServices"]
"""Makes the office of an engine; to name the engine's type would load what it is made from."""


class EngineFactory(Protocol):
    """What the reception asks to open engines. Satisfied by `TenantEngineFactory`."""

    @property
    def loaded(self) -> LoadedDefinitions:
        """The definitions that engines are opened with."""
        ...

    def prepare(self) -> None:
        """Do what can be done before anyone has called.

        Raises:
            PerstackError: Nobody could be served.
        """
        ...

    def open_engine(self, principal: str) -> AbstractAsyncContextManager[OpenedEngine]:
        """The engine of a principal, closed when the context is left.

        Raises:
            PerstackError: It cannot be opened.
        """
        ...

    async def tenants_with_orphans(self) -> tuple[str, ...]:
        """The principals whose engines have something to do before anyone calls.

        Raises:
            PerstackError: Nobody could be served.
        """
        ...

    def use_definitions(self, loaded: LoadedDefinitions) -> None:
        """Open engines with other definitions from now on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPolicy:
    """What holds for principals and their jobs.

    Attributes:
        tenant_settings: How principals are treated; `None` if nobody is asked who they are.
        limits: How much the jobs of each principal, and all jobs together, may do.
        recovery: Which jobs that were left behind go on by themselves; `None` for none.
    """

    tenant_settings: TenantSettings | None = None
    limits: JobLimits = field(default_factory=JobLimits)
    recovery: RecoveryPolicy | None = None


class TenantEngineFactory:
    """Opens engines that share the definitions, and nothing else.

    Args:
        settings: For all of them.
        loaded: The definition file.
        make_services: Makes what answers requests on top of an engine.
        policy: What holds for principals and their jobs.
        notifications: Told of what the jobs of a principal do.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: LoadedDefinitions,
        make_services: ServicesFactory,
        *,
        policy: TenantPolicy | None = None,
        notifications: NotificationHub | None = None,
    ) -> None:
        policy = policy or TenantPolicy()
        # Whoever calls can answer what skill servers ask: by a form, or with another call.
        self._settings = replace(settings, is_attended=True)
        self._loaded = loaded
        self._make_services = make_services
        self._tenant_settings = policy.tenant_settings
        self._notifications = notifications or NotificationHub()
        self._recovery = policy.recovery
        self._clock = SystemClock()
        self._overrides = Overrides(admit=AdmissionController(policy.limits, self._clock).admit)

    @property
    def loaded(self) -> LoadedDefinitions:
        """The definitions that engines are opened with."""
        return self._loaded

    def use_definitions(self, loaded: LoadedDefinitions) -> None:
        """Open engines with other definitions from now on."""
        self._loaded = loaded

    def prepare(self) -> None:
        """Make the folder that holds those of the principals.

        Raises:
            ConfigError: It cannot be made or written.
        """
        if self._tenant_settings is not None:
            ensure_tenants_folder(self._settings, self._tenant_settings, self._loaded.path)

    @asynccontextmanager
    async def open_engine(self, principal: str) -> AsyncGenerator[OpenedEngine]:
        """The engine of a principal, closed when the context is left.

        Raises:
            PerstackError: It cannot be opened.
        """
        # Here and not above: this is what a client shall not wait for that wants to know the tools.
        from perstack.engine import open_engine  # noqa: PLC0415 - see above

        settings = self._settings_for(principal)
        loaded = self._loaded
        async with open_engine(settings, self._overrides, loaded) as engine:
            if self._loaded is not loaded:
                await engine.reload_definitions(self._loaded)
            engine.subscribe(partial(self._notifications.job_changed, principal))
            yield OpenedEngine(engine, self._make_services(engine), self._recovery_task(engine))

    async def tenants_with_orphans(self) -> tuple[str, ...]:
        """The principals whose jobs were left in the middle of their work."""
        if self._tenant_settings is None or self._recovery is None:
            return ()
        folder = ensure_tenants_folder(self._settings, self._tenant_settings, self._loaded.path)
        since_ms = self._recovery.since_ms(self._clock)
        return await anyio.to_thread.run_sync(tenants_with_unfinished_jobs, folder, since_ms)

    def _recovery_task(self, engine: "Engine") -> Callable[[], Coroutine[Any, Any, None]] | None:
        if self._recovery is None:
            return None
        return partial(recover_orphans, engine, self._recovery, self._clock)

    def _settings_for(self, principal: str) -> Settings:
        if self._tenant_settings is None:
            return self._settings
        if principal == LOCAL_PRINCIPAL:
            # Nobody is let in without a token; but if anyone ever were, they would find no jobs.
            raise PerstackError("Only users with a token are served here.")
        folder = ensure_tenants_folder(self._settings, self._tenant_settings, self._loaded.path)
        return settings_for_tenant(self._settings, folder, principal)
