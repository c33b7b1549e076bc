"""Servers that other people publish, fetched by their own package managers."""

import os
import subprocess
import venv
from pathlib import Path

import pytest

from perstack.core.messages import ImageInlinePart
from perstack.definition.model import McpStdioSkill
from tests.skills.harness import Recorder, call, expert, opened

pytestmark = [pytest.mark.anyio, pytest.mark.external]


@pytest.mark.timeout(180)
async def test_the_reference_server_for_everything_by_npx(tmp_path: Path) -> None:
    skill = McpStdioSkill(
        type="mcpStdioSkill", command="npx", package_name="@modelcontextprotocol/server-everything"
    )
    tester, told = expert(everything=skill), Recorder()
    environment = dict(os.environ) | {"ANTHROPIC_API_KEY": "sk-not-for-servers"}

    async with opened(tmp_path, environment, start_seconds=120) as skills:
        tools = [tool.name for tool in await skills.tools(tester, told)]
        echo = await skills.call(tester, call("echo", "everything", message="hello"), "key")
        image = await skills.call(tester, call("get-tiny-image", "everything"), "key")
        seen = await skills.call(tester, call("get-env", "everything"), "key")

    assert "echo" in tools
    assert "hello" in echo.text
    assert any(isinstance(part, ImageInlinePart) for part in image.result)
    assert "PATH" in seen.text
    assert "sk-not-for-servers" not in seen.text
    assert told.of("disconnected")


@pytest.mark.timeout(180)
async def test_the_reference_server_for_time_by_pip(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(  # noqa: ASYNC221 -- nothing else waits in this test
        [str(python), "-m", "pip", "install", "-q", "mcp-server-time"], check=True
    )
    skill = McpStdioSkill(
        type="mcpStdioSkill",
        command=str(python.with_name("mcp-server-time")),
        args=("--local-timezone=UTC",),
    )
    tester, told = expert(time=skill), Recorder()

    async with opened(tmp_path) as skills:
        await skills.tools(tester, told)
        now = await skills.call(tester, call("get_current_time", "time", timezone="UTC"), "key")

    assert not now.is_error
    assert "UTC" in now.text
