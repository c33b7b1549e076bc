"""Creates what every transport needs before its first client: definitions, tenants and server."""

from dataclasses import dataclass, field, replace
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcp.server import Server

from perstack.definition.file_watch import FileWatch
from perstack.definition.loader import find_config, load_definitions
from perstack.server.activity import ServerActivity
from perstack.server.app import build_server
from perstack.server.context import ServerContext
from perstack.server.notifications.definitions_watcher import DefinitionsWatcher
from perstack.server.notifications.hub import NotificationHub
from perstack.server.tenants.engine import TenantEngineFactory, TenantPolicy
from perstack.server.tenants.registry import TenantRegistry
from perstack.server.tools.definitions import PublishMode
from perstack.server.tools.wait import WaitPolicy
from perstack.settings import Settings

if TYPE_CHECKING:
    from perstack.engine import Engine
    from perstack.server.services import TenantServices

LOG = getLogger(__name__)
HTTP_LIST_TTL_SECONDS = 60
"""Polling by many clients is costly; one that must know of an edit at once can subscribe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(TenantPolicy):
    """How clients are served, on any transport.

    `wait_policy` says how long a call waits before it returns status `running`, or becomes a task.
    """

    publish: PublishMode = "coordinators"
    has_job_tools: bool = True
    wait_policy: WaitPolicy = field(default_factory=WaitPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRuntime:
    """A server with everything that its transport runs beside it.

    Attributes:
        tenants: To be run in a task, and closed at the end.
        definitions_watcher: To be run in a task.
        notifications: To be closed before the server, so that pending notifications are sent.
    """

    server: Server[dict[str, Any]]
    tenants: TenantRegistry
    activity: ServerActivity
    definitions_watcher: DefinitionsWatcher
    notifications: NotificationHub


def create_runtime(settings: Settings, server_options: ServerOptions) -> ServerRuntime:
    """Create the server for a definition file, without opening an engine.

    The workspace defaults to the folder of the definition file, because clients start servers in
    arbitrary folders.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
    """
    path = find_config(settings.config, Path.cwd())
    file_watch = FileWatch(path)
    loaded = load_definitions(path, strict=settings.is_strict, keep_sound=True)
    for warning in loaded.warnings:
        LOG.warning("%s", warning)
    for report in loaded.fault_reports:
        LOG.error("perstack: %s", report)
    settings = replace(settings, home="config", config=loaded.path)
    notifications = NotificationHub()
    engine_factory = TenantEngineFactory(
        settings,
        loaded,
        partial(_create_services, settings, server_options),
        policy=server_options,
        notifications=notifications,
    )
    tenants = TenantRegistry(engine_factory, server_options.tenant_settings)
    activity = ServerActivity()
    watcher = DefinitionsWatcher(
        loaded,
        settings,
        tenants.reload_definitions,
        notifications.definitions_changed,
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
    settings: Settings, server_options: ServerOptions, engine: "Engine"
) -> "TenantServices":
    # tools/list must not wait for this import.
    from perstack.server.services import TenantServices  # noqa: PLC0415 - see above

    is_remote = settings.transport == "http"
    return TenantServices(
        engine,
        wait_policy=replace(server_options.wait_policy, is_remote=is_remote),
        has_job_tools=server_options.has_job_tools,
        transport="tcp" if is_remote else "pipe",
    )
