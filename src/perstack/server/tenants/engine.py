"""The engine of one tenant, with the services on top of it, from opening to closing."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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

CreateServices = Callable[["Engine"], "TenantServices"]
TenantState = Literal["opening", "open", "closing", "closed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantPolicy:
    """How tenants and their jobs are treated.

    Attributes:
        tenant_settings: Where tenants live; `None` without authentication.
        limits: How many jobs may run, and how many tokens they may use.
        recovery: Which orphaned jobs are resumed; `None` for none.
    """

    tenant_settings: TenantSettings | None = None
    limits: JobLimits = field(default_factory=JobLimits)
    recovery: RecoveryPolicy | None = None


class TenantEngineFactory:
    """Opens engines that share the definitions and nothing else.

    Attributes:
        loaded: The definitions with which further engines are opened.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: LoadedDefinitions,
        create_services: CreateServices,
        *,
        policy: TenantPolicy | None = None,
        notifications: NotificationHub | None = None,
    ) -> None:
        self.loaded = loaded
        self.create_services = create_services
        # A client can answer the questions of skill servers: with a form or with another call.
        self._settings = replace(settings, is_attended=True)
        self._policy = policy or TenantPolicy()
        self._notifications = notifications or NotificationHub()
        self._clock = SystemClock()
        admission = AdmissionController(self._policy.limits, self._clock)
        self._overrides = Overrides(admit=admission.admit)

    def prepare(self) -> Path | None:
        """The folder for tenants, created if necessary; `None` without authentication."""
        if self._policy.tenant_settings is None:
            return None
        return ensure_tenants_folder(self._settings, self._policy.tenant_settings, self.loaded.path)

    @asynccontextmanager
    async def open_engine(self, principal: str) -> AsyncGenerator["Engine"]:
        """The engine of a principal, closed when the context is left.

        Raises:
            PerstackError: It cannot be opened.
        """
        from perstack.engine import open_engine  # noqa: PLC0415 - tools/list must not wait for it

        settings = self._settings
        if self._policy.tenant_settings is not None and principal == LOCAL_PRINCIPAL:
            # Defence in depth: such requests are refused before.
            raise PerstackError("Only users with a token are served here.")
        if (folder := self.prepare()) is not None:
            settings = settings_for_tenant(settings, folder, principal)
        loaded = self.loaded
        async with open_engine(settings, self._overrides, loaded) as engine:
            if self.loaded is not loaded:
                await engine.reload_definitions(self.loaded)
            engine.subscribe(partial(self._notifications.job_changed, principal))
            yield engine

    async def recover(self, engine: "Engine") -> None:
        """Resume the orphaned jobs of an engine; returns when they have stopped."""
        if self._policy.recovery is not None:
            await recover_orphans(engine, self._policy.recovery, self._clock)

    async def tenants_with_orphans(self) -> tuple[str, ...]:
        """The principals with jobs that are to be resumed before anyone calls."""
        folder = self.prepare()
        if folder is None or self._policy.recovery is None:
            return ()
        since_ms = self._policy.recovery.since_ms(self._clock)
        return await anyio.to_thread.run_sync(tenants_with_unfinished_jobs, folder, since_ms)


class TenantEngine:
    """The life of one tenant's engine: opening, open, closing, closed; no state comes twice.

    Attributes:
        last_error: Why it, or the engine before it, could not be opened; the log says so once, not
            with each attempt.
    """

    def __init__(self, principal: str, factory: TenantEngineFactory, last_error: str = "") -> None:
        self.principal = principal
        self.state: TenantState = "opening"
        self.last_error = last_error
        self.last_used_at_ms = 0
        self._factory = factory
        self._state_changed = anyio.Event()
        self._engine: Engine | None = None
        self._services: TenantServices | None = None
        self._failure = PerstackError("perstack is shutting down.")

    @property
    def is_closing(self) -> bool:
        """Whether no further request may use it."""
        return self.state in ("closing", "closed")

    @property
    def has_live_jobs(self) -> bool:
        return self._engine is not None and bool(self._engine.live_job_ids)

    async def wait_while(self, *states: TenantState) -> None:
        while self.state in states:
            await self._state_changed.wait()

    async def get_services(self) -> "TenantServices":
        """The services, once they are open; raises `PerstackError` if they cannot be opened."""
        await self.wait_while("opening")
        if self._services is None:
            raise self._failure
        return self._services

    async def reload_definitions(self, loaded: LoadedDefinitions) -> None:
        """Use other definitions from now on, if it is open.

        Raises:
            ConfigError: Their model cannot be opened. Nothing has changed then.
        """
        if self._engine is not None:
            await self._engine.reload_definitions(loaded)

    async def run(self, activity: ServerActivity) -> None:
        """Open the engine and keep it open until `close`."""
        try:
            async with self._factory.open_engine(self.principal) as engine:
                self._engine = engine
                if not self.is_closing:
                    self._services = self._factory.create_services(engine)
                    self.last_error = ""
                    self._enter("open")
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_warm_up, engine, activity)
                    tasks.start_soon(self._factory.recover, engine)
                    await self.wait_while("open")
                    tasks.cancel_scope.cancel()
        except PerstackError as error:
            if str(error) != self.last_error:
                LOG.error("perstack: %s", error)  # noqa: TRY400 - the text says it all
            self.last_error = str(error)
            self._failure = error
        except Exception as error:  # the failure of one tenant must not end the others
            LOG.exception("perstack: the engine of %s failed", self.principal)
            self._failure = PerstackError(f"Internal error: {type(error).__name__}.")
        finally:
            self.mark_closed()

    def close(self) -> None:
        """Stop all jobs, resumable, and close the engine; the state is `closed` afterwards."""
        if not self.is_closing:
            self._enter("closing")

    def mark_closed(self) -> None:
        """Enter the last state, after `run` or instead of it."""
        self._engine = self._services = None
        self._enter("closed")

    def _enter(self, state: TenantState) -> None:
        self.state = state
        self._state_changed.set()
        self._state_changed = anyio.Event()


async def _warm_up(engine: "Engine", activity: ServerActivity) -> None:
    """Load the rest while the server is idle; a call that comes first loads it itself."""
    await activity.idle.wait()
    try:
        await engine.warm_up()
    except Exception:  # a call will meet the same failure and report it
        LOG.warning("The model could not be made ready.", exc_info=True)
