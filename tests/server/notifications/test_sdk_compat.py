"""What is used of the protocol's SDK that it does not promise. If this fails, see `sdk_compat`."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from mcp import Client
from mcp.server.connection import Connection
from mcp.shared.subscriptions import (
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
    event_from_wire,
)
from mcp_types import ListToolsResult, PaginatedRequestParams, ServerNotification

from perstack.server.caller import RequestContext
from perstack.server.notifications.sdk_compat import (
    NotifyingServer,
    connection_of,
    send_event,
)

pytestmark = pytest.mark.anyio

EVERYTHING: tuple[ServerEvent, ...] = (
    ToolsListChanged(),
    PromptsListChanged(),
    ResourcesListChanged(),
    ResourceUpdated("test://one"),
)


async def test_a_connection_is_the_same_for_all_its_requests_and_can_be_written_to() -> None:
    server = NotifyingServer("test")
    seen: list[Connection] = []
    ended: list[bool] = []

    async def list_tools(
        context: RequestContext, _params: PaginatedRequestParams
    ) -> ListToolsResult:
        seen.append(connection_of(context))
        return ListToolsResult(tools=[])

    server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)
    told: list[ServerEvent | None] = []

    async def note(message: Any) -> None:
        if isinstance(message, ServerNotification):
            params = message.model_dump(by_alias=True).get("params")
            told.append(event_from_wire(message.method, params))

    async with Client(server, mode="legacy", message_handler=note) as client:
        await client.list_tools()
        await client.list_tools()
        connection, again = seen
        assert connection is again
        assert isinstance(connection.exit_stack, AsyncExitStack)
        connection.state["kept"] = True
        connection.exit_stack.callback(lambda: ended.append(True))
        for event in EVERYTHING:
            await send_event(connection, event)
        await client.list_tools()
        assert tuple(told) == EVERYTHING
        assert ended == []
    assert ended == [True]
