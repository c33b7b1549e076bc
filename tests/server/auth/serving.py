"""An HTTP server in this process whose users have tokens, and clients for them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from perstack.runtime.ports import SystemClock
from perstack.server.auth.provider import BearerAuth
from perstack.server.auth.token_file import TokenFileVerifier, format_entry
from perstack.server.bootstrap import ServerOptions
from perstack.server.tenants.folders import TenantSettings
from perstack.server.transports.http import HttpOptions
from perstack.settings import Settings
from tests.server.harness import Mode
from tests.server.telling import Told
from tests.server.transports.in_process import ANY_PORT, listening

TOML = """
[provider]
providerName = "scripted"
[provider.setting]
script = "script.toml"
[experts.reader]
description = "Reads."
instruction = "Read."
[experts.writer]
description = "Writes."
instruction = "Write."
[experts.waiter]
description = "Waits."
instruction = "Wait."
"""
SCRIPT = """
[[experts.reader]]
text = "Read: {{query}}"
[[experts.writer]]
text = "Written."
[[experts.waiter]]
delaySeconds = 60
text = "Waited."
"""
SCOPES = {
    "alice": ("perstack:run",),
    "bob": ("perstack:run",),
    "carol": ("perstack:run:writer",),
    "dora": ("perstack:jobs.read",),
}


def token_of(name: str) -> str:
    """The token of one of the users."""
    return f"pst_{name}"


def add_tokens(folder: Path, *names: str) -> Path:
    """A file that knows the tokens of these users."""
    path = folder / "tokens.toml"
    path.touch(mode=0o600)
    entries = [format_entry(token_of(name), name, SCOPES[name], None) for name in names]
    path.write_text("\n".join(entries), encoding="utf-8")
    return path


def by_tokens(folder: Path, *required_scopes: str) -> BearerAuth:
    """A gate for all of them."""
    path = add_tokens(folder, *SCOPES)
    return BearerAuth(
        verifier=TokenFileVerifier(path, SystemClock()), required_scopes=required_scopes
    )


@dataclass(frozen=True)
class Place:
    """A server."""

    folder: Path
    origin: str

    @asynccontextmanager
    async def client(
        self, name: str, mode: Mode = "auto", *, is_sse: bool = False, told: Told | None = None
    ) -> AsyncGenerator[Client]:
        """A client with the token of a user."""
        headers = {"authorization": f"Bearer {token_of(name)}"}
        async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
            transport = (
                sse_client(f"{self.origin}/sse", headers=headers)
                if is_sse
                else streamable_http_client(f"{self.origin}/mcp", http_client=http)
            )
            note = told.note if told is not None else None
            async with Client(transport, mode=mode, message_handler=note) as client:
                yield client

    @asynccontextmanager
    async def http(self, name: str | None = None) -> AsyncGenerator[httpx2.AsyncClient]:
        """A client that keeps to no protocol."""
        headers = {} if name is None else {"authorization": f"Bearer {token_of(name)}"}
        async with httpx2.AsyncClient(base_url=self.origin, headers=headers, timeout=30) as http:
            yield http


@asynccontextmanager
async def serving(
    folder: Path,
    auth: BearerAuth,
    offer: ServerOptions | None = None,
    *,
    settings: Settings | None = None,
) -> AsyncGenerator[Place]:
    """A server in this process, which ends with the context."""
    config = folder / "perstack.toml"
    config.write_text(TOML, encoding="utf-8")
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")
    settings = settings or Settings(config=config, environment={})
    offer = offer or ServerOptions(tenant_settings=TenantSettings())
    options = HttpOptions(address=ANY_PORT, has_sse=True, auth=auth)
    async with listening(settings, offer, options) as origin:
        yield Place(folder, origin)
