"""Servers that other people publish, fetched by their own package managers."""

import os
import socket
import subprocess
import venv
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from perstack.core.messages import ImageInlinePart
from perstack.definition.model import McpSseSkill, McpStdioSkill
from tests.skills.harness import Recorder, call, expert, opened, until

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


OLDER_SDK_SERVER = """
import sys
from mcp.server.fastmcp import FastMCP
server = FastMCP("older", host="127.0.0.1", port=int(sys.argv[1]), log_level="CRITICAL")
@server.tool()
def echo(message: str) -> str:
    return message
server.run("streamable-http")
"""


@pytest.mark.timeout(240)
async def test_a_session_of_a_server_of_the_older_sdk_that_was_restarted_is_opened_anew(
    tmp_path: Path,
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run(  # noqa: ASYNC221 -- nothing else waits in this test
        [str(python), "-m", "pip", "install", "-q", "mcp<2"], check=True
    )
    await check_restart([str(python), "-c", OLDER_SDK_SERVER], tmp_path)


@pytest.mark.timeout(240)
async def test_a_session_of_the_server_for_everything_that_was_restarted_is_opened_anew(
    tmp_path: Path,
) -> None:
    package = "@modelcontextprotocol/server-everything"
    subprocess.run(  # noqa: ASYNC221 -- nothing else waits in this test
        ["npm", "install", "--silent", package], cwd=tmp_path, check=True
    )
    program = tmp_path / "node_modules" / ".bin" / "mcp-server-everything"
    await check_restart([str(program), "streamableHttp"], tmp_path)


async def check_restart(command: list[str], workspace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}/mcp"
    skill = McpSseSkill(type="mcpSseSkill", endpoint=endpoint, allow_private=True)
    tester, told = expert(echoing=skill), Recorder()
    echo = call("echo", "echoing", message="hello")
    async with opened(workspace) as skills:
        with listening(command, port):
            await until(lambda: is_listening(port))
            await skills.tools(tester, told)
            before = await skills.call(tester, echo, "key")
        with listening(command, port):
            await until(lambda: is_listening(port))
            after = await skills.call(tester, echo, "key")

    assert not before.is_error
    assert after.text == before.text
    assert len(told.of("connected")) == 2


@contextmanager
def listening(command: list[str], port: int) -> Generator[None]:
    process = subprocess.Popen(
        [*command, str(port)],
        env=dict(os.environ) | {"PORT": str(port)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
