"""`perstack serve` in processes of its own, and clients that reach it over each transport."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Literal

from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client

from tests.server.harness import Mode

Transport = Literal["stdio", "http", "sse"]
TRANSPORTS: tuple[Transport, ...] = ("stdio", "http", "sse")
PATIENCE_SECONDS = 40.0

TOML = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.toml"

[experts."echo"]
description = "Repeats what it is told."
instruction = "Repeat."

[experts."waiter"]
description = "Waits for the file that the query names."
instruction = "Wait."
"""
SCRIPT = """
[[experts.echo]]
text = "You said {{query}}."

[[experts.echo]]
text = "And then {{query}}."

[[experts.waiter]]

[[experts.waiter.toolCalls]]
name = "exec"
args = { command = "sh", args = ["-c", "until [ -e '{{query}}' ]; do sleep 0.02; done"], cwd = "." }

[[experts.waiter]]
text = "It is there."
"""


def prepare(folder: Path) -> None:
    """Write the definitions."""
    (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
    (folder / "script.toml").write_text(SCRIPT, encoding="utf-8")


def command(folder: Path, *options: str) -> list[str]:
    """What starts a server on the definitions of a folder."""
    config = str(folder / "perstack.toml")
    return [sys.executable, "-m", "perstack", "serve", "--config", config, *options]


@dataclass
class HttpServer:
    """A server that listens on a port that was free."""

    process: subprocess.Popen[str]
    origin: str
    lines: list[str]

    def end(self, signal_number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal; returns the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def http_server(folder: Path, **variables: str) -> Generator[HttpServer]:
    """A server on the definitions of a folder, with these variables in its environment."""
    with subprocess.Popen(
        command(folder, "--http", "0", "--sse"),
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        lines: list[str] = []
        told: Queue[str] = Queue()
        reader = threading.Thread(target=_read, args=(process, lines, told), daemon=True)
        reader.start()
        try:
            url = told.get(timeout=PATIENCE_SECONDS).rpartition(" ")[2].strip()
            yield HttpServer(process, url.removesuffix("/mcp"), lines)
        except Empty:
            raise AssertionError("".join(lines)) from None
        finally:
            process.kill()
            process.wait()
            reader.join(PATIENCE_SECONDS)


def _read(process: subprocess.Popen[str], lines: list[str], told: Queue[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if "serving" in line:
            told.put(line)


@asynccontextmanager
async def connected(
    transport: Transport, mode: Mode, folder: Path, origin: str = ""
) -> AsyncGenerator[Client]:
    """One more client of the server of a folder; over stdio it starts one of its own.

    The id of the newest process that was started for a client is in the file `pid`.
    """
    client: Client
    if transport == "stdio":
        noting = ["-c", 'echo $$ > "$0"; exec "$@"', str(folder / "pid"), *command(folder)]
        parameters = StdioServerParameters(command="sh", args=noting, env=dict(os.environ))
        client = Client(stdio_client(parameters), mode=mode)
    elif transport == "sse":
        client = Client(sse_client(f"{origin}/sse"), mode=mode)
    else:
        client = Client(f"{origin}/mcp", mode=mode)
    async with client:
        yield client
