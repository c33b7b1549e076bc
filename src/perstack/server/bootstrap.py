"""What every transport needs before its first client: definitions, a reception, and one server."""

from dataclasses import dataclass, field, replace
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.server import Server

from perstack.definition.file_watch import FileWatch
from perstack.definition.loader import LoadedDefinitions, find_config, load_definitions
from perstack.server.activity import ServerActivity
from perstack.server.app import build_server
from perstack.server.context import ServerContext
from perstack.server.notifications.definitions_watcher import DefinitionsWatcher
from perstack.server.notifications.hub import NotificationHub
from perstack.server.tenants.engine import TenantEngineFactory, TenantPolicy
from perstack.server.tenants.folders import TenantSettings
from perstack.server.tenants.limits import JobLimits
from perstack.server.tenants.recovery import RecoveryPolicy
from perstack.server.tenants.registry import TenantRegistry
from perstack.server.tools.definitions import PublishMode
from perstack.server.tools.wait import WaitPolicy
from perstack.settings import Settings

if TYPE_CHECKING:
    from perstack.server.services import TenantServices

LOG = getLogger(__name__)
HTTP_LIST_TTL_SECONDS = 60
"""Many clients ask over HTTP; one that wants to know of an edit at once listens for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What is offered to clients, on any transport.

    Attributes:
        publish: Which experts are tools.
        has_job_tools: Whether there are tools that look after jobs.
        wait_policy: How long a call waits before it returns status `running`, or becomes a task.
        tenant_settings: How principals are treated; `None` if nobody is asked who they are.
        limits: How much the jobs of each principal, and all jobs together, may do.
        recovery: Which jobs that were left behind go on by themselves; `None` for none.
    """

    publish: PublishMode = "coordinators"
    has_job_tools: bool = True
    wait_policy: WaitPolicy = field(default_factory=WaitPolicy)
    tenant_settings: TenantSettings | None = None
    limits: JobLimits = field(default_factory=JobLimits)
    recovery: RecoveryPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRuntime:
    """A server that has no client yet.

    Attributes:
        server: Answers requests, whatever transport they come by.
        tenants: To be run beside it, and closed in the end.
        activity: What the server is doing.
        definitions_watcher: The definition file.
        notifications: To be closed before the server is, so that clients hear that it ends.
    """

    server: Server[dict[str, Any]]
    tenants: TenantRegistry
    activity: ServerActivity
    definitions_watcher: DefinitionsWatcher
    notifications: NotificationHub

    async def watch_definitions(self) -> None:
        """Take in each edit of the definition file, until cancelled."""
        await self.definitions_watcher.watch(
            self.reload_definitions, self.notifications.definitions_changed
        )

    async def reload_definitions(self, loaded: LoadedDefinitions) -> None:
        """Use other definitions from now on.

        Raises:
            ConfigError: They cannot be used. Nothing has changed then.
        """
        await self.tenants.reload_definitions(loaded)
        if self.tenants.ready.is_set() and not self.tenants.is_open:
            await self.tenants.open()  # what the definitions before have kept from opening


def create_runtime(settings: Settings, server_options: ServerOptions) -> ServerRuntime:
    """The server for a definition file. Nothing is opened yet.

    Args:
        settings: The face's decisions. Unless it names one, the workspace is the folder of the
            definition file, because clients start servers in arbitrary folders.
        server_options: What is offered to clients.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
    """
    path = find_config(settings.config, Path.cwd())
    file_watch = FileWatch(path)
    loaded = load_definitions(path, strict=settings.is_strict)
    for warning in loaded.warnings:
        LOG.warning("%s", warning)
    settings = replace(settings, home="config", config=loaded.path)
    notifications = NotificationHub()
    engine_factory = TenantEngineFactory(
        settings,
        loaded,
        partial(_create_services, settings, server_options),
        policy=TenantPolicy(
            tenant_settings=server_options.tenant_settings,
            limits=server_options.limits,
            recovery=server_options.recovery,
        ),
        notifications=notifications,
    )
    tenants = TenantRegistry(engine_factory, server_options.tenant_settings)
    activity = ServerActivity()
    watcher = DefinitionsWatcher(
        loaded,
        is_strict=settings.is_strict,
        has_env_paths=settings.env_paths is not None,
        file_watch=file_watch,
    )
    server_context = ServerContext(
        definitions=tenants.definitions,
        tenants=tenants,
        requires_auth=server_options.tenant_settings is not None,
        problems=lambda: watcher.problems,
        publish=server_options.publish,
        has_job_tools=server_options.has_job_tools,
        default_wait_seconds=server_options.wait_policy.advertised_seconds,
        activity=activity,
        notifications=notifications,
        list_ttl_seconds=HTTP_LIST_TTL_SECONDS if settings.transport == "http" else 0,
    )
    return ServerRuntime(
        server=build_server(server_context),
        tenants=tenants,
        activity=activity,
        definitions_watcher=watcher,
        notifications=notifications,
    )


def _create_services(
    settings: Settings, server_options: ServerOptions, engine: Any
) -> "TenantServices":
    # Here and not above: a client that wants to know the tools shall not wait for it.
    from perstack.server.services import TenantServices  # noqa: PLC0415 - see above

    is_remote = settings.transport == "http"
    return TenantServices(
        engine,
        wait_policy=replace(server_options.wait_policy, is_remote=is_remote),
        has_job_tools=server_options.has_job_tools,
        transport="tcp" if is_remote else "pipe",
    )
