"""What the request handlers of a server share.

`tools/list` must be answered before the engine is imported. So handlers hold the definitions only,
and get everything else from `TenantServicesProvider`, which opens an engine when it is needed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from perstack.definition.model import Definitions, Expert
from perstack.server.activity import ServerActivity
from perstack.server.caller import Caller
from perstack.server.notifications.hub import NotificationHub
from perstack.server.tools.definitions import PublishMode, job_tool_names, published_experts

if TYPE_CHECKING:
    from perstack.server.services import TenantServices


class TenantServicesProvider(Protocol):
    """Finds the services of a caller's tenant. Satisfied by `TenantRegistry`."""

    def lease(self, principal: str) -> AbstractContextManager[None]:
        """Keep the services of a principal open within the context, once they are."""
        ...

    async def services_for(self, caller: Caller) -> "TenantServices":
        """The services, once they are open.

        Raises:
            PerstackError: They cannot be opened; the message says why.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerContext:
    """How the server was set up.

    Attributes:
        definitions: Returns the current snapshot; called for each request.
        problems: What is wrong with an edit of the definition file that was rejected.
        default_wait_seconds: How long a call waits by default; `None` if that depends on its
            client.
        list_ttl_seconds: How long a client may cache a list that does not depend on jobs.
    """

    definitions: Callable[[], Definitions]
    tenants: TenantServicesProvider
    requires_auth: bool = False
    problems: Callable[[], tuple[str, ...]] = tuple
    publish: PublishMode = "coordinators"
    has_job_tools: bool = True
    default_wait_seconds: float | None = None
    activity: ServerActivity = field(default_factory=ServerActivity)
    notifications: NotificationHub = field(default_factory=NotificationHub)
    list_ttl_seconds: int = 0

    def visible_experts(self, caller: Caller) -> dict[str, Expert]:
        """The published experts that a caller may run, by the names of their tools."""
        published = published_experts(self.definitions(), self.publish)
        return {name: expert for name, expert in published.items() if caller.may_run(expert.key)}

    def visible_job_tools(self, caller: Caller) -> frozenset[str]:
        """The names of the tools that manage jobs, as far as a caller may use them."""
        return job_tool_names(caller) if self.has_job_tools else frozenset()
