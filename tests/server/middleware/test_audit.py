"""One line for each request, which says who wanted what and never what it was about."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from perstack.errors import ConfigError
from perstack.server.middleware.audit import AUDIT, configure_audit_log
from tests.server.auth.serving import by_tokens, serving
from tests.server.harness import Mode, facts

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def audited(folder: Path, mode: Mode) -> AsyncGenerator[Client]:
    """A client of alice's, whose requests are written to `audit.jsonl`."""
    with configure_audit_log(folder / "audit.jsonl"):
        async with serving(folder, by_tokens(folder)) as place, place.client("alice", mode) as one:
            yield one


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "audit.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


async def test_a_line_says_who_wanted_what_and_whether_they_got_it(
    tmp_path: Path, mode: Mode
) -> None:
    async with audited(tmp_path, mode) as client:
        result = await client.call_tool("reader", {"query": "the-question"})
        assert isinstance(result, CallToolResult)
        await client.call_tool("perstack_job", {"job_id": "a" * 24})
        with pytest.raises(MCPError):
            await client.call_tool("nobody", {"query": "the-question"})
        with anyio.move_on_after(0.3):
            await client.call_tool("waiter", {"query": "the-question"})
        await client.list_tools()
    calls = [line for line in lines(tmp_path) if line["method"] == "tools/call"]
    job_id = facts(result)["job_id"]
    assert [(call["target"], call["outcome"]) for call in calls] == [
        ("reader", "ok"),
        ("perstack_job", "error"),
        ("nobody", "refused"),
        ("waiter", "cancelled"),
    ]
    assert [call.get("job_id") for call in calls] == [job_id, "a" * 24, None, None]
    for call in calls:
        assert call["principal"].startswith("alice-")
        assert call["client"] == "mcp"
        assert call["time"].endswith("+00:00")
        assert call["ms"] >= 0


async def test_what_no_client_has_asked_for_has_no_line(tmp_path: Path, mode: Mode) -> None:
    async with audited(tmp_path, mode) as client:
        await client.list_tools()
        before = len(lines(tmp_path))
        await client.call_tool("reader", {"query": "the-question"})
        assert [line["method"] for line in lines(tmp_path)[before:]] == ["tools/call"]


async def test_a_line_has_no_arguments_results_or_tokens(tmp_path: Path, mode: Mode) -> None:
    async with audited(tmp_path, mode) as client:
        await client.call_tool("reader", {"query": "the-question"})
    text = (tmp_path / "audit.jsonl").read_text(encoding="utf-8")
    assert '"reader"' in text
    for secret in ("the-question", "Read:", "pst_alice"):
        assert secret not in text


async def test_what_callers_call_things_cannot_forge_a_line(tmp_path: Path) -> None:
    async with audited(tmp_path, "auto") as client:
        name = 'x"}\n{"principal": "bob", "method": "tools/call"}' + "y" * 5000
        with pytest.raises(MCPError):
            await client.call_tool(name, {})
    last = lines(tmp_path)[-1]
    assert last["principal"].startswith("alice-")
    assert last["target"] == name[:200]


def test_the_file_is_for_its_owner_and_may_be_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with configure_audit_log(path):
        assert path.stat().st_mode & 0o777 == 0o600
        AUDIT.info("first")
        path.rename(tmp_path / "audit.1")
        AUDIT.info("second")
        assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text(encoding="utf-8") == "second\n"
    assert (tmp_path / "audit.1").read_text(encoding="utf-8") == "first\n"


def test_a_file_that_is_lost_holds_nobody_up_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with configure_audit_log(folder / "audit.jsonl"):
        folder.rename(tmp_path / "away")
        AUDIT.info("lost")
        AUDIT.info("lost too")
        folder.mkdir()
        AUDIT.info("kept")
    assert (folder / "audit.jsonl").read_text(encoding="utf-8") == "kept\n"
    assert [record.getMessage() for record in caplog.records] == [
        f"perstack: the audit file {folder / 'audit.jsonl'} cannot be written."
    ]


def test_lines_go_to_stderr_without_a_file_and_nowhere_afterwards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with configure_audit_log(None):
        AUDIT.info("written")
    AUDIT.info("lost")
    assert capsys.readouterr().err == "written\n"


def test_a_file_that_cannot_be_written_is_a_readable_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        configure_audit_log(tmp_path / "no" / "file"),
    ):
        raise AssertionError("there is such a file")
