"""A server is killed while its expert works; the next one goes on with the job by itself."""

import signal
from functools import partial
from pathlib import Path

import anyio
import pytest

from tests.server.harness import facts
from tests.server.transports.clients import (
    PATIENCE_SECONDS,
    Noted,
    call,
    gate_in,
    until_status,
)
from tests.server.transports.serving import connected, http_server, prepare

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def test_a_job_goes_on_with_the_next_server(tmp_path: Path) -> None:
    prepare(tmp_path)
    gate, noted = gate_in(tmp_path), Noted()
    with http_server(tmp_path) as server, anyio.fail_after(PATIENCE_SECONDS):
        async with (
            connected("http", "auto", tmp_path, server.origin) as client,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(partial(call, client, "waiter", noted, query=gate.name))
            await noted.at_work.wait()
            # Before the call is given up, which would stop its job.
            server.end(signal.SIGKILL)
            tasks.cancel_scope.cancel()
    gate.touch()
    with http_server(tmp_path) as server, anyio.fail_after(PATIENCE_SECONDS):
        async with connected("http", "auto", tmp_path, server.origin) as client:
            job_id = await until_status(client, gate.name, lambda status: status == "completed")
            end = facts(await call(client, "perstack_job", job_id=job_id))
    assert end["text"] == "It is there."
