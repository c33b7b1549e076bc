"""The end of a server while a call is open, over each transport and in both eras."""

import os
import signal
from pathlib import Path

import anyio
import httpx2
import pytest
from anyio.abc import TaskStatus
from mcp import MCPError

from tests.server.harness import Mode, facts
from tests.server.transports.clients import PATIENCE_SECONDS, Noted, call, gate_in, until_status
from tests.server.transports.raw import opened_session
from tests.server.transports.serving import Transport, connected, http_server, prepare

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OVER_HTTP: tuple[Transport, ...] = ("http", "sse")


async def test_callers_are_told_that_their_jobs_were_stopped_and_another_server_goes_on(
    tmp_path: Path, mode: Mode
) -> None:
    prepare(tmp_path)
    gate, told = gate_in(tmp_path), list[dict[str, object]]()
    codes: list[int] = []
    with http_server(tmp_path) as server:

        async def wait(transport: Transport, noted: Noted) -> None:
            async with connected(transport, mode, tmp_path, server.origin) as client:
                # Else it asks for them when it has the result, to check that.
                await client.list_tools()
                told.append(facts(await call(client, "waiter", noted, query=gate.name)))

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                for transport in OVER_HTTP:
                    noted = Noted()
                    tasks.start_soon(wait, transport, noted)
                    await noted.at_work.wait()
                codes.append(await anyio.to_thread.run_sync(server.end))
    assert codes == [0]
    assert "Traceback" not in "".join(server.lines)
    assert [result["status"] for result in told] == ["cancelled", "cancelled"]
    gate.touch()
    assert await resumed(tmp_path, mode, *(result["job_id"] for result in told)) == [
        "It is there.",
        "It is there.",
    ]


async def test_streams_that_are_open_do_not_hold_up_the_end(tmp_path: Path) -> None:
    prepare(tmp_path)
    ended: list[str] = []
    codes: list[int] = []
    with http_server(tmp_path) as server, anyio.fail_after(PATIENCE_SECONDS):
        async with httpx2.AsyncClient(base_url=server.origin, timeout=30) as http:
            session = await opened_session(http)

            async def listen(path: str, *, task_status: TaskStatus[None]) -> None:
                headers = {"accept": "text/event-stream", **session}
                async with http.stream("GET", path, headers=headers) as response:
                    task_status.started()
                    async for _ in response.aiter_raw():
                        continue
                ended.append(path)

            async with anyio.create_task_group() as tasks:
                await tasks.start(listen, "/mcp")
                await tasks.start(listen, "/sse")
                codes.append(await anyio.to_thread.run_sync(server.end, signal.SIGINT))
    assert codes == [0]
    assert sorted(ended) == ["/mcp", "/sse"]
    assert "Traceback" not in "".join(server.lines)


async def test_a_server_that_its_client_started_stops_the_job_too(
    tmp_path: Path, mode: Mode
) -> None:
    prepare(tmp_path)
    gate, noted = gate_in(tmp_path), Noted()
    with anyio.fail_after(PATIENCE_SECONDS):
        async with connected("stdio", mode, tmp_path) as client:

            async def wait() -> None:
                with pytest.raises(MCPError, match="closed"):
                    await call(client, "waiter", noted, query=gate.name)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await noted.at_work.wait()
                os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), signal.SIGTERM)
        async with connected("stdio", mode, tmp_path) as client:
            job_id = await until_status(client, gate.name, lambda status: status == "cancelled")
    gate.touch()
    assert await resumed(tmp_path, mode, job_id) == ["It is there."]


async def resumed(folder: Path, mode: Mode, *job_ids: object) -> list[object]:
    """What jobs answer when another server goes on with them."""
    async with connected("stdio", mode, folder) as client:
        results = [facts(await call(client, "waiter", query="", job_id=each)) for each in job_ids]
    assert {result["status"] for result in results} == {"completed"}
    return [result["text"] for result in results]
