"""The only touches of what the protocol's SDK keeps to itself, for want of a public way.

The SDK tells clients of the handshake era nothing about changes: it neither says that it would, nor
knows its connections. `tests/server/test_compat.py` fails when a new version of it needs another
way.
"""

from contextlib import AsyncExitStack
from typing import Any, Protocol, cast

from mcp.server import Server
from mcp.server.lowlevel import NotificationOptions
from mcp.server.models import InitializationOptions
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ServerEvent,
    ToolsListChanged,
)

from perstack.server.caller import RequestContext


class ClientConnection(Protocol):
    """A client's connection, which outlives its requests."""

    @property
    def state(self) -> dict[str, Any]:
        """Whatever is to be kept for as long as the connection lives."""
        ...

    @property
    def exit_stack(self) -> AsyncExitStack:
        """What is to be done when it ends."""
        ...

    async def send_tool_list_changed(self) -> None:
        """Send the notification; one that cannot be sent is dropped."""
        ...

    async def send_prompt_list_changed(self) -> None:
        """As above."""
        ...

    async def send_resource_list_changed(self) -> None:
        """As above."""
        ...

    async def send_resource_updated(self, uri: str) -> None:
        """As above."""
        ...


class NotifyingServer(Server[dict[str, Any]]):
    """A server that tells clients of the handshake era, too, that it will tell them of changes."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """What `initialize` answers."""
        all_changes = NotificationOptions(
            prompts_changed=True, resources_changed=True, tools_changed=True
        )
        return super().create_initialization_options(
            notification_options or all_changes, experimental_capabilities, extensions
        )


def connection_of(context: RequestContext) -> ClientConnection:
    """The connection that a request came over."""
    connection = context.session._connection  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    return cast("ClientConnection", connection)


async def send_event(connection: ClientConnection, event: ServerEvent) -> None:
    """Send an event to a client of the handshake era."""
    match event:
        case ToolsListChanged():
            await connection.send_tool_list_changed()
        case PromptsListChanged():
            await connection.send_prompt_list_changed()
        case ResourcesListChanged():
            await connection.send_resource_list_changed()
        case _:
            await connection.send_resource_updated(event.uri)
