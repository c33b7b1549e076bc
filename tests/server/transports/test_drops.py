"""Connections that break in the middle of a call."""

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import httpx2
import pytest
from mcp import Client

from tests.server.harness import facts
from tests.server.transports.clients import PATIENCE_SECONDS, call, gate_in, until_status
from tests.server.transports.raw import (
    ENVELOPE,
    INTRODUCTION,
    calling,
    messages,
    modern_headers,
    open_call,
    opened_session,
    place_to_post,
    request,
    until_at_work,
)
from tests.server.transports.serving import HttpServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def http(server: HttpServer) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client that keeps to no protocol."""
    async with httpx2.AsyncClient(base_url=server.origin, timeout=30) as client:
        yield client


@pytest.fixture
async def other(server: HttpServer) -> AsyncGenerator[Client]:
    """A client that looks on."""
    async with Client(f"{server.origin}/mcp") as client:
        yield client


async def test_dropping_the_request_cancels_it_where_there_are_no_sessions(
    folder: Path, http: httpx2.AsyncClient, other: Client
) -> None:
    gate = gate_in(folder)
    params = calling("waiter", query=gate.name)
    params["_meta"] |= ENVELOPE
    with anyio.fail_after(PATIENCE_SECONDS):
        async with open_call(http, modern_headers("waiter"), params) as stream:
            await until_at_work(stream)
        job_id = await until_status(other, gate.name, lambda status: status != "running")
    stopped = facts(await call(other, "perstack_job", job_id=job_id))
    gate.touch()
    resumed = facts(await call(other, "waiter", query="", job_id=job_id))

    assert stopped["status"] == "cancelled"
    assert (resumed["status"], resumed["text"]) == ("completed", "It is there.")


async def test_a_dropped_request_of_a_session_runs_on(
    folder: Path, http: httpx2.AsyncClient, other: Client
) -> None:
    gate = gate_in(folder)
    session = await opened_session(http)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with open_call(http, session, calling("waiter", query=gate.name)) as stream:
            await until_at_work(stream)
        job_id = await until_status(other, gate.name, lambda status: status == "running")
        gate.touch()
        collected = facts(await call(other, "perstack_job", job_id=job_id))

    assert (collected["status"], collected["text"]) == ("completed", "It is there.")


async def test_the_call_of_a_dropped_stream_of_events_runs_on(
    folder: Path, http: httpx2.AsyncClient, other: Client
) -> None:
    gate = gate_in(folder)
    with anyio.fail_after(PATIENCE_SECONDS):
        async with http.stream("GET", "/sse") as response:
            lines = response.aiter_lines()
            place = await place_to_post(lines)
            await http.post(place, json=request("initialize", INTRODUCTION))
            await http.post(
                place, json=request("tools/call", calling("waiter", query=gate.name), 2)
            )
            await until_at_work(messages(lines))
        job_id = await until_status(other, gate.name, lambda status: status == "running")
        # Time enough for a server that would cancel the call.
        still = facts(await call(other, "perstack_job", job_id=job_id, wait_seconds=1))
        gate.touch()
        collected = facts(await call(other, "perstack_job", job_id=job_id))

    assert still["status"] == "running"
    assert (collected["status"], collected["text"]) == ("completed", "It is there.")
