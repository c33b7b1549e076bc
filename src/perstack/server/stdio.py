"""`perstack serve` over stdin and stdout."""

import os
import signal
import threading
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

import anyio
from mcp.server import Server

from perstack.definition.load import find_config, load
from perstack.server.app import build_server
from perstack.server.face import Activity, Face, Publish
from perstack.server.pipe import Wire, claimed_stdio, messages_over
from perstack.server.reception import Reception
from perstack.server.schemas import DEFAULT_WAIT_SECONDS
from perstack.settings import Settings
from perstack.telemetry.propagation import continuing_environment

LOG = getLogger(__name__)
SHUTDOWN_SECONDS = 1.5


async def serve_stdio(
    settings: Settings,
    *,
    publish: Publish = "coordinators",
    job_tools: bool = True,
    default_wait_seconds: float = DEFAULT_WAIT_SECONDS,
) -> None:
    """Serve one client until it closes stdin, or until SIGTERM or SIGINT.

    While it serves, stdout belongs to the protocol: whatever else is printed goes to stderr. All
    jobs that still run at the end are stopped and can be resumed.

    Args:
        settings: The face's decisions. Unless it names one, the workspace is the folder of the
            definition file, because clients start servers in arbitrary folders.
        publish: Which experts are tools.
        job_tools: Whether there are tools that look after jobs.
        default_wait_seconds: How long a call waits before it returns status `running`.

    Raises:
        DefinitionError: The definition file cannot be found or accepted.
    """
    settings = replace(settings, home="config", transport="stdio")
    environment = os.environ if settings.environment is None else settings.environment
    with claimed_stdio() as wire, continuing_environment(environment):
        path = find_config(settings.config, Path.cwd())
        loaded = load(path, strict=settings.is_strict)
        for warning in loaded.warnings:
            LOG.warning("%s", warning)
        reception = Reception(
            replace(settings, config=loaded.path),
            loaded.definitions,
            default_wait_seconds=default_wait_seconds,
            has_job_tools=job_tools,
        )
        activity = Activity()
        server = build_server(
            Face(
                definitions=reception.definitions,
                offices=reception,
                publish=publish,
                has_job_tools=job_tools,
                default_wait_seconds=default_wait_seconds,
                activity=activity,
            )
        )
        await _serve(wire, server, reception, activity)


async def _serve(
    wire: Wire, server: Server[dict[str, Any]], reception: Reception, activity: Activity
) -> None:
    async with anyio.create_task_group() as tasks:
        serving = anyio.CancelScope()
        tasks.start_soon(_cancel_on_signal, serving)
        tasks.start_soon(reception.run, activity)
        tasks.start_soon(reception.open_when_idle, activity)
        with serving:
            async with messages_over(wire, reception.open) as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
        await reception.close(SHUTDOWN_SECONDS)
        tasks.cancel_scope.cancel()


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread can be told of signals
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return
