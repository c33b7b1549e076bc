"""From the start of a server to its list of tools, over stdio, against a bare SDK server."""

import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.stage import Row, figure, workplace

ROUNDS = 11
LIMIT = 1.3
BARE = """
from mcp.server import MCPServer
server = MCPServer("bare")
@server.tool()
def expert(query: str) -> str:
    "Answer."
    return query
server.run("stdio")
"""
CLIENT = {"name": "benchmark", "version": "1"}
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": CLIENT}


def milliseconds_to_tools(command: list[str], folder: Path) -> float:
    """One cold start."""
    started = time.monotonic()
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        stdin, stdout = server.stdin, server.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the server has no pipes")

        def send(method: str, **more: object) -> None:
            stdin.write(json.dumps({"jsonrpc": "2.0", "method": method, **more}) + "\n")
            stdin.flush()

        send("initialize", id=1, params=HELLO)
        stdout.readline()
        send("notifications/initialized")
        send("tools/list", id=2, params={})
        stdout.readline()
        took = time.monotonic() - started
        server.kill()
    return took * 1000


def measure() -> list[Row]:
    """Both in turn."""
    bare: list[float] = []
    ours: list[float] = []
    with workplace() as folder:
        for _ in range(ROUNDS):
            bare.append(milliseconds_to_tools([sys.executable, "-c", BARE], folder))
            command = [sys.executable, "-m", "perstack", "serve"]
            ours.append(milliseconds_to_tools(command, folder))
    floor, product = figure(bare), figure(ours)
    return [
        Row("bare SDK server", "ms", floor),
        Row("perstack serve", "ms", product, product.middle / floor.middle, LIMIT),
    ]
