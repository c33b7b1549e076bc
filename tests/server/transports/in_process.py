"""A server on HTTP in the process of the test, and a client that keeps to no protocol."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import httpx2

from perstack.server.bootstrap import ServerOptions
from perstack.server.transports.http import HttpOptions, serve_http
from perstack.server.transports.sockets import HostPort
from perstack.settings import Settings

TOML = """
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"
[experts.reader]
instruction = "Read."
[experts.painter]
instruction = "Paint."
[experts.painter.skills.user]
type = "interactiveSkill"
[experts.painter.skills.user.tools.askColour]
"""
SCRIPT = """
[[experts.reader]]
text = "Hi."
[[experts.painter]]
toolCalls = [{ name = "askColour", args = { question = "Which colour?" } }]
"""
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
ANY_PORT = HostPort("127.0.0.1", 0)
LOCAL = HttpOptions(address=ANY_PORT, has_sse=True)


@dataclass(frozen=True)
class Place:
    """A server, and a client that keeps to no protocol."""

    origin: str
    http: httpx2.AsyncClient


@asynccontextmanager
async def listening(
    settings: Settings, server_options: ServerOptions, options: HttpOptions
) -> AsyncGenerator[str]:
    """A server in this process, which ends with the context, by its origin."""
    urls: list[str] = []
    is_listening, end = anyio.Event(), anyio.Event()

    def told(url: str) -> None:
        urls.append(url)
        is_listening.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            partial(serve_http, settings, server_options, options, told, until=end.wait)
        )
        with anyio.fail_after(30):
            await is_listening.wait()
        yield urls[0].removesuffix("/mcp")
        end.set()


@asynccontextmanager
async def serving(folder: Path, options: HttpOptions = LOCAL) -> AsyncGenerator[Place]:
    """A server of two experts."""
    config = folder / "perstack.toml"
    config.write_text(TOML, encoding="utf-8")
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
    settings = Settings(config=config, environment={})
    with anyio.fail_after(30):
        async with (
            listening(settings, ServerOptions(), options) as origin,
            httpx2.AsyncClient(base_url=origin, timeout=30) as http,
        ):
            yield Place(origin, http)
