"""What every transport needs before its first client: definitions, a reception, and one server."""

from dataclasses import dataclass, field, replace
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

from mcp.server import Server

from perstack.definition.load import Loaded, find_config, load
from perstack.definition.watch import FileWatch
from perstack.server.app import build_server
from perstack.server.calls.windows import Windows
from perstack.server.changes.changes import Changes
from perstack.server.changes.live import LiveDefinitions
from perstack.server.face import Activity, Face, Office, Publish
from perstack.server.users.engines import Engines, Terms
from perstack.server.users.limits import Limits
from perstack.server.users.oversight import add_oversight
from perstack.server.users.reception import Reception
from perstack.server.users.recovery import Recovery
from perstack.server.users.users import Users
from perstack.settings import Settings

LOG = getLogger(__name__)
HTTP_LIST_SECONDS = 60
"""Many clients ask over HTTP; one that wants to know of an edit at once listens for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What is offered to clients, on any transport.

    Attributes:
        publish: Which experts are tools.
        has_job_tools: Whether there are tools that look after jobs.
        windows: How long a call waits before it returns status `running`, or becomes a task.
        users: How principals are treated; `None` if nobody is asked who they are.
        limits: How much the jobs of each principal, and all jobs together, may do.
        recovery: Which jobs that were left behind go on by themselves; `None` for none.
    """

    publish: Publish = "coordinators"
    has_job_tools: bool = True
    windows: Windows = field(default_factory=Windows)
    users: Users | None = None
    limits: Limits = field(default_factory=Limits)
    recovery: Recovery | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that has no client yet.

    Attributes:
        server: Answers requests, whatever transport they come by.
        reception: To be run beside it, and closed in the end.
        activity: What the server is doing.
        live: The definition file.
        changes: To be closed before the server is, so that clients hear that it ends.
    """

    server: Server[dict[str, Any]]
    reception: Reception
    activity: Activity
    live: LiveDefinitions
    changes: Changes

    async def keep_up(self) -> None:
        """Take in each edit of the definition file, until cancelled."""
        await self.live.watch(self.adopt, self.changes.definitions_changed)

    async def adopt(self, loaded: Loaded) -> None:
        """Use other definitions from now on.

        Raises:
            ConfigError: They cannot be used. Nothing has changed then.
        """
        await self.reception.adopt(loaded)
        if self.reception.settled.is_set() and not self.reception.is_open:
            await self.reception.open()  # what the definitions before have kept from opening


def prepared(settings: Settings, offer: Offer) -> Served:
    """The server for a definition file. Nothing is opened yet.

    Args:
        settings: The face's decisions. Unless it names one, the workspace is the folder of the
            definition file, because clients start servers in arbitrary folders.
        offer: What is offered to clients.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
    """
    path = find_config(settings.config, Path.cwd())
    file = FileWatch(path)
    loaded = load(path, strict=settings.is_strict)
    for warning in loaded.warnings:
        LOG.warning("%s", warning)
    settings = replace(settings, home="config", config=loaded.path)
    changes = Changes()
    engines = Engines(
        settings,
        loaded,
        partial(_office, settings, offer),
        terms=Terms(users=offer.users, limits=offer.limits, recovery=offer.recovery),
        changes=changes,
    )
    reception = Reception(engines, offer.users)
    activity = Activity()
    live = LiveDefinitions(
        loaded,
        is_strict=settings.is_strict,
        has_env_paths=settings.env_paths is not None,
        file=file,
    )
    face = Face(
        definitions=reception.definitions,
        offices=reception,
        problems=lambda: live.problems,
        publish=offer.publish,
        has_job_tools=offer.has_job_tools,
        default_wait_seconds=offer.windows.advertised_seconds,
        activity=activity,
        changes=changes,
        list_seconds=HTTP_LIST_SECONDS if settings.transport == "http" else 0,
    )
    server = build_server(face)
    add_oversight(server, reception, knows_users=offer.users is not None)
    return Served(
        server=server,
        reception=reception,
        activity=activity,
        live=live,
        changes=changes,
    )


def _office(settings: Settings, offer: Offer, engine: Any) -> Office:
    # Here and not above: a client that wants to know the tools shall not wait for it.
    from perstack.server.users.office import EngineOffice  # noqa: PLC0415 - see above

    is_remote = settings.transport == "http"
    return EngineOffice(
        engine,
        windows=replace(offer.windows, is_remote=is_remote),
        has_job_tools=offer.has_job_tools,
        transport="tcp" if is_remote else "pipe",
    )
