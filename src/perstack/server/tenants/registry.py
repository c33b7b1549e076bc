"""Opens the engine of each tenant when it is first needed, and closes it when it is idle.

`tools/list` is answered before an engine is even imported. Without authentication all callers share
one engine. With it each principal has its own, so that an error in the handling of a request cannot
expose the data of another principal.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from logging import getLogger
from typing import TYPE_CHECKING

import anyio

from perstack.definition.loader import LoadedDefinitions
from perstack.definition.model import Definitions
from perstack.errors import PerstackError
from perstack.runtime.ports import Clock, SystemClock
from perstack.server.activity import ServerActivity
from perstack.server.caller import LOCAL_PRINCIPAL, Caller
from perstack.server.tenants.engine import TenantEngine, TenantEngineFactory
from perstack.server.tenants.folders import TenantSettings

if TYPE_CHECKING:
    from perstack.server.services import TenantServices

LOG = getLogger(__name__)
OPEN_DELAY_SECONDS = 0.3


class TenantRegistry:
    """The tenants of a server, with their engines.

    Attributes:
        ready: Set once `open` has opened what it can.
    """

    def __init__(
        self,
        engine_factory: TenantEngineFactory,
        tenant_settings: TenantSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._engine_factory = engine_factory
        self._tenant_settings = tenant_settings
        self._clock = clock or SystemClock()
        self._tenants: dict[str, TenantEngine] = {}
        self._lease_counts: Counter[str] = Counter()
        self._to_open: list[TenantEngine] = []
        self._wake = anyio.Event()
        self._is_prepared = False
        self._is_closing = False
        self._closed = anyio.Event()
        self.ready = anyio.Event()

    @property
    def is_open(self) -> bool:
        """Whether calls can be answered."""
        if self._tenant_settings is not None:
            return self._is_prepared
        return any(tenant.state in ("open", "closing") for tenant in self._tenants.values())

    def definitions(self) -> Definitions:
        """The current snapshot."""
        return self._engine_factory.loaded.definitions

    async def open(self) -> None:
        """Open what can be opened before the first call. A failure is logged."""
        try:
            self._engine_factory.prepare()
            self._is_prepared = True
            if self._tenant_settings is None:
                tenant = await self._get_or_create(LOCAL_PRINCIPAL)
                await tenant.wait_while("opening")
            else:
                await self._open_tenants_with_orphans(self._tenant_settings.max_open // 2)
        except PerstackError as error:
            LOG.error("perstack: %s", error)  # noqa: TRY400 - the text says it all
        finally:
            self.ready.set()

    async def open_when_idle(self, activity: ServerActivity) -> None:
        """Open the engine a moment after the tools were listed, so that no call waits for it."""
        await activity.tools_listed.wait()
        await anyio.sleep(OPEN_DELAY_SECONDS)
        await self.open()

    async def services_for(self, caller: Caller) -> "TenantServices":
        tenant = await self._get_or_create(
            LOCAL_PRINCIPAL if self._tenant_settings is None else caller.principal
        )
        return await tenant.get_services()

    @contextmanager
    def lease(self, principal: str) -> Generator[None]:
        """Do not evict the engine of a principal within the context, nor just after it."""
        self._lease_counts[principal] += 1
        try:
            yield
        finally:
            self._lease_counts[principal] -= 1
            if not self._lease_counts[principal]:
                del self._lease_counts[principal]
            if principal in self._tenants:
                self._tenants[principal].last_used_at_ms = self._clock.now_ms()

    async def reload_definitions(self, loaded: LoadedDefinitions) -> None:
        """Use other definitions in all engines, open or not, and open those that failed before.

        An engine of one of many principals that cannot use them keeps its own; a warning is logged.

        Raises:
            ConfigError: The only engine cannot use them. Nothing has changed then.
        """
        previous = self._engine_factory.loaded
        self._engine_factory.loaded = loaded
        for tenant in tuple(self._tenants.values()):
            try:
                await tenant.reload_definitions(loaded)
            except PerstackError as error:
                if self._tenant_settings is None:
                    self._engine_factory.loaded = previous
                    raise
                LOG.warning(
                    "perstack: %s keeps the definitions before: %s", tenant.principal, error
                )
        if self.ready.is_set() and not self.is_open:
            await self.open()

    async def run(self, activity: ServerActivity) -> None:
        """Open the engines that requests need, until `close`.

        They are opened here, not in the requests, because an engine must not inherit the context
        variables of a request: its span and its access token.
        """
        try:
            async with (
                anyio.create_task_group() as engine_tasks,
                anyio.create_task_group() as eviction_tasks,
            ):
                eviction_tasks.start_soon(self._evict_idle)
                while not self._is_closing:
                    for tenant in self._to_open:
                        engine_tasks.start_soon(tenant.run, activity)
                    self._to_open.clear()
                    await self._wake.wait()
                    self._wake = anyio.Event()
                eviction_tasks.cancel_scope.cancel()
        finally:
            self._is_closing = True
            for tenant in self._to_open:
                tenant.mark_closed()
            self.ready.set()
            self._closed.set()

    async def close(self, seconds: float) -> None:
        """Stop all jobs, resumable, and close the engines, waiting for at most `seconds`."""
        self._is_closing = True
        for tenant in self._tenants.values():
            tenant.close()
        self._wake.set()
        with anyio.move_on_after(seconds):
            await self._closed.wait()

    async def _open_tenants_with_orphans(self, limit: int) -> None:
        # Not all that may be open at once: places are left for callers.
        principals = await self._engine_factory.tenants_with_orphans()
        for principal in principals[:limit]:
            await self._get_or_create(principal)
        if len(principals) > limit:
            LOG.warning(
                "perstack: %d users have jobs that were left behind; those of %d go on now,"
                " the others' when they call.",
                len(principals),
                limit,
            )

    async def _get_or_create(self, principal: str) -> TenantEngine:
        last_error = ""
        while True:
            if self._is_closing:
                raise PerstackError("perstack is shutting down.")
            tenant = self._tenants.get(principal)
            if tenant is None:
                if self._tenant_settings is not None:
                    self._evict_least_recently_used(self._tenant_settings.max_open)
                tenant = TenantEngine(principal, self._engine_factory, last_error)
                self._tenants[principal] = tenant
                self._to_open.append(tenant)
                self._wake.set()
            if not tenant.is_closing:
                tenant.last_used_at_ms = self._clock.now_ms()
                return tenant
            await tenant.wait_while("closing")
            last_error = tenant.last_error
            if self._tenants.get(principal) is tenant:
                del self._tenants[principal]

    def _is_idle(self, tenant: TenantEngine) -> bool:
        return (
            tenant.state == "open"
            and not tenant.has_live_jobs
            and not self._lease_counts[tenant.principal]
        )

    def _evict_least_recently_used(self, max_open: int) -> None:
        active = [tenant for tenant in self._tenants.values() if not tenant.is_closing]
        if len(active) < max_open:
            return
        idle = [tenant for tenant in active if self._is_idle(tenant)]
        if not idle:
            raise PerstackError(
                "The server is serving as many users as it can.", hint="Try again in a minute."
            )
        min(idle, key=lambda tenant: tenant.last_used_at_ms).close()

    async def _evict_idle(self) -> None:
        if self._tenant_settings is None:
            return
        idle_ms = self._tenant_settings.idle_seconds * 1000
        while True:
            await self._clock.sleep(self._tenant_settings.idle_seconds / 4)
            now = self._clock.now_ms()
            for principal, tenant in tuple(self._tenants.items()):
                if tenant.state == "closed":
                    del self._tenants[principal]
                elif self._is_idle(tenant) and now - tenant.last_used_at_ms >= idle_ms:
                    tenant.close()
