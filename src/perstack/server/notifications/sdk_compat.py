"""The only uses of SDK internals, for which the SDK has no public interface.

For clients of the handshake era the SDK neither declares change notifications nor gives access to
their connections. `tests/server/notifications/test_sdk_compat.py` fails if an SDK version changes
these internals.
"""

from typing import Any

from mcp.server import Server
from mcp.server.connection import Connection
from mcp.server.lowlevel import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ServerEvent,
    ToolsListChanged,
)

from perstack.server.caller import RequestContext


class NotifyingServer(Server[dict[str, Any]]):
    """A server that declares change notifications to clients of the handshake era, too."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """The result of `initialize`."""
        all_changes = NotificationOptions(
            prompts_changed=True, resources_changed=True, tools_changed=True
        )
        return super().create_initialization_options(
            notification_options or all_changes, experimental_capabilities, extensions
        )


def connection_of(context: RequestContext) -> Connection:
    """The connection of a request's client, which outlives the request."""
    return context.session._connection  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above


async def send_event(connection: Connection, event: ServerEvent) -> None:
    """Send an event to a client of the handshake era; one that cannot be sent is dropped."""
    match event:
        case ToolsListChanged():
            await connection.send_tool_list_changed()
        case PromptsListChanged():
            await connection.send_prompt_list_changed()
        case ResourcesListChanged():
            await connection.send_resource_list_changed()
        case _:
            await connection.send_resource_updated(event.uri)
