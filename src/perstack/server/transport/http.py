"""`perstack serve --http`: any number of clients, until the process is told to end."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from socket import socket

import anyio

from perstack.errors import ConfigError
from perstack.server.transport.ending import asked_to_end
from perstack.server.transport.hosts import allowed
from perstack.server.transport.http_app import MCP_PATH, Access, Gate, HttpApp, Readiness
from perstack.server.transport.listening import Address, Listener, bound, in_numbers, is_loopback
from perstack.server.users.opening import Offer, Served, prepared
from perstack.server.users.reception import Reception
from perstack.settings import Settings

SHUTDOWN_SECONDS = 1.5
LAST_ANSWERS_SECONDS = 0.25
LONGEST_END_SECONDS = 3
"""After which what did not end is cut off; not to be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """How a server is reached.

    Attributes:
        address: Where it listens.
        has_sse: Whether older clients find the HTTP+SSE transport at `/sse`.
        allowed_hosts: Values of `Host` that are let in beside the address itself.
        allowed_origins: Values of `Origin` that are let in beside the address itself.
        gate: Lets in who may come in; `None` lets in everyone.
        is_open_to_all: Whether it may be without a gate where other machines reach it.
    """

    address: Address
    has_sse: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    gate: Gate | None = None
    is_open_to_all: bool = False


async def serve_http(
    settings: Settings,
    offer: Offer,
    options: HttpOptions,
    on_listening: Callable[[str], None],
    until: Callable[[], Awaitable[None]] = asked_to_end,
) -> None:
    """Serve until SIGTERM or SIGINT. All jobs that still run then are stopped, resumable.

    Args:
        settings: The face's decisions.
        offer: What is offered to clients.
        options: How the server is reached.
        on_listening: Told the URL once clients can connect.
        until: Returns when it is time to end.

    Raises:
        ConfigError: The address cannot be used, or would be open to strangers.
        DefinitionError: The definition file cannot be found or accepted.
    """
    served = prepared(replace(settings, transport="http"), offer)
    wanted = in_numbers(options.address)
    if not (is_loopback(wanted) or options.gate or options.is_open_to_all):
        raise ConfigError(
            f"{options.address} can be reached from other machines, by anyone.",
            hint="Ask for authentication with --auth, listen on 127.0.0.1, "
            "or say --allow-unauthenticated if that is meant.",
        )
    with bound(wanted) as (listening, address):
        access = Access(
            security=allowed(address, options.allowed_hosts, options.allowed_origins),
            readiness=partial(_readiness, served.reception),
            origins=options.allowed_origins,
            gate=options.gate,
            has_sse=options.has_sse,
        )
        url = f"http://{address}{MCP_PATH}"
        app = HttpApp(served.server, access)
        await _serve(served, app, listening, partial(on_listening, url), until)


async def _serve(
    served: Served,
    app: HttpApp,
    listening: socket,
    on_listening: Callable[[], None],
    until: Callable[[], Awaitable[None]],
) -> None:
    listener = Listener(app.requests, shutdown_seconds=LONGEST_END_SECONDS)
    reception = served.reception
    over = anyio.Event()

    async def wait_for_the_end() -> None:
        await until()
        over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait_for_the_end)
        tasks.start_soon(reception.run, served.activity)
        tasks.start_soon(served.keep_up)
        async with app.running(), anyio.create_task_group() as listeners:
            listeners.start_soon(listener.serve, [listening])
            # Whoever reads the URL may send a signal at once; by now somebody waits for it.
            await anyio.lowlevel.checkpoint()
            on_listening()
            tasks.start_soon(reception.open)
            await over.wait()
            listener.should_exit = True
            app.requests.refuse_more()
            # Callers are told that their jobs were stopped, and how to go on with them.
            await reception.close(SHUTDOWN_SECONDS)
            await served.changes.close()
            await app.requests.end(LAST_ANSWERS_SECONDS)
        tasks.cancel_scope.cancel()


def _readiness(reception: Reception) -> Readiness:
    if reception.is_open:
        return Readiness(is_ready=True, reason="ready")
    if reception.settled.is_set():
        return Readiness(is_ready=False, reason="cannot be opened; its log says why")
    return Readiness(is_ready=False, reason="opening")
