"""`perstack serve` over stdin and stdout."""

import os
from dataclasses import replace

import anyio

from perstack.server.changes.changes import Changes
from perstack.server.transport.ending import asked_to_end
from perstack.server.transport.pipe import Wire, claimed_stdio, messages_over
from perstack.server.users.opening import Offer, Served, prepared
from perstack.settings import Settings
from perstack.telemetry.propagation import continuing_environment

SHUTDOWN_SECONDS = 1.5


async def serve_stdio(settings: Settings, offer: Offer) -> None:
    """Serve one client until it closes stdin, or until SIGTERM or SIGINT.

    While it serves, stdout belongs to the protocol: whatever else is printed goes to stderr. All
    jobs that still run at the end are stopped and can be resumed.

    Args:
        settings: The face's decisions.
        offer: What is offered to the client.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
    """
    environment = os.environ if settings.environment is None else settings.environment
    with claimed_stdio() as wire, continuing_environment(environment):
        await _serve(wire, prepared(replace(settings, transport="stdio"), offer))


async def _serve(wire: Wire, served: Served) -> None:
    server, reception = served.server, served.reception
    async with anyio.create_task_group() as tasks:
        serving = anyio.CancelScope()
        tasks.start_soon(_cancel_when_asked, serving, served.changes)
        tasks.start_soon(reception.run, served.activity)
        tasks.start_soon(reception.open_when_idle, served.activity)
        tasks.start_soon(served.keep_up)
        with serving:
            async with messages_over(wire, reception.open) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
        await reception.close(SHUTDOWN_SECONDS)
        tasks.cancel_scope.cancel()


async def _cancel_when_asked(scope: anyio.CancelScope, changes: Changes) -> None:
    await asked_to_end()
    await changes.close()
    scope.cancel()
