"""Lines of the log, for clients that name a level."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client
from mcp_types import (
    EmptyResult,
    LoggingLevel,
    LoggingMessageNotificationParams,
    SetLevelRequest,
    SetLevelRequestParams,
)

from tests.fakes import FakeModel, call, calls, done
from tests.server.harness import Mode, stage

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def reading(
    folder: Path, mode: Mode, level: LoggingLevel | None
) -> AsyncGenerator[tuple[Client, list[LoggingMessageNotificationParams]]]:
    """A client that has named a level, or none, and what it is told."""
    heard: list[LoggingMessageNotificationParams] = []

    async def note(params: LoggingMessageNotificationParams) -> None:
        heard.append(params)

    model = FakeModel({"reviewer": [calls(call("echo", "c1")), done("x")]})
    async with stage(folder, mode, model) as here:
        named = level if mode == "auto" else None
        listening = Client(here.server, mode=mode, logging_callback=note, log_level=named)
        async with listening as client:
            if mode == "legacy" and level is not None:
                request = SetLevelRequest(params=SetLevelRequestParams(level=level))
                await client.session.send_request(request, EmptyResult)
            yield client, heard


async def test_a_client_that_names_a_level_reads_the_lines_of_progress(
    tmp_path: Path, mode: Mode
) -> None:
    async with reading(tmp_path, mode, "info") as (client, heard):
        await client.call_tool("reviewer", {"query": "look"})
        await anyio.wait_all_tasks_blocked()
    assert "reviewer · step 1 · echo" in [params.data for params in heard]
    assert {(params.level, params.logger) for params in heard} == {("info", "perstack")}


@pytest.mark.parametrize("level", [None, "warning"])
async def test_nobody_else_is_told(tmp_path: Path, mode: Mode, level: LoggingLevel | None) -> None:
    async with reading(tmp_path, mode, level) as (client, heard):
        await client.call_tool("reviewer", {"query": "look"})
        await anyio.wait_all_tasks_blocked()
    assert heard == []
