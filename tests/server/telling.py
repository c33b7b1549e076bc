"""A client that wants to know of everything, as its era has it."""

from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup
from mcp import Client
from mcp.shared.subscriptions import ServerEvent, event_from_wire
from mcp_types import EmptyResult, ServerNotification, SubscribeRequest, SubscribeRequestParams

from tests.server.harness import Mode


class Told:
    """What a client was told of."""

    def __init__(self) -> None:
        self.events: list[ServerEvent] = []
        self.ended = anyio.Event()
        self._heard = anyio.Event()

    async def note(self, message: object) -> None:
        if isinstance(message, ServerNotification):
            params = message.model_dump(by_alias=True).get("params")
            event = event_from_wire(message.method, params)
            if event is not None:
                self.add(event)

    def add(self, event: ServerEvent) -> None:
        self.events.append(event)
        self._heard.set()

    async def until(self, *events: ServerEvent) -> None:
        with anyio.fail_after(30):
            while not set(events) <= set(self.events):
                self._heard = anyio.Event()
                await self._heard.wait()


async def follow(
    client: Client, mode: Mode, told: Told, listening: TaskGroup, resources: Sequence[str]
) -> None:
    """Have the client told of all lists and of `resources`, as its era has it."""
    if mode == "legacy":
        await follow_all(client, mode, resources)
        return
    is_open = anyio.Event()

    async def listen() -> None:
        async with client.listen(
            tools_list_changed=True,
            prompts_list_changed=True,
            resources_list_changed=True,
            resource_subscriptions=resources,
        ) as stream:
            is_open.set()
            async for event in stream:
                told.add(event)
        told.ended.set()

    listening.start_soon(listen)
    await is_open.wait()


async def follow_all(client: Client, mode: Mode, resources: Sequence[str]) -> None:
    """Ask to be told of `resources` alone."""
    if mode == "auto":
        await client.listen(resource_subscriptions=resources).__aenter__()
        return
    for uri in resources:
        asked = SubscribeRequest(params=SubscribeRequestParams(uri=uri))
        await client.session.send_request(asked, EmptyResult)
