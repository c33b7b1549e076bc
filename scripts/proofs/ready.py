"""Ready in time: cold `initialize` + `tools/list` over stdio against a bare SDK server."""

import statistics
import sys
import time
from pathlib import Path

from _stage import PERSTACK, StdioServer, conclude, plain_environment, say, workplace

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
TOML = """
[experts."reviewer"]
description = "Reviews a file."
instruction = "Review."
delegates = ["@reviewer/style"]

[experts."@reviewer/style"]
description = "Looks at the style."
instruction = "Look."
"""


def seconds_to_tools(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """From the start of the process to its list of tools."""
    server = StdioServer(command, cwd=folder, environment=environment)
    try:
        server.handshake()
        server.ask("tools/list")
        took = time.monotonic() - server.started_at
    finally:
        server.kill()
    return took


def modules_at_tools(folder: Path) -> set[str]:
    """The modules that a server has imported when it has just listed its tools."""
    command = [sys.executable, "-X", "importtime", *PERSTACK[1:], "serve"]
    server = StdioServer(command, cwd=folder, environment=plain_environment())
    try:
        server.handshake()
        server.ask("tools/list")
    finally:
        server.kill()
    return {line.rsplit("|", 1)[-1].strip() for line in server.stderr().splitlines()}


def main() -> None:
    """Start both in turn and compare."""
    with workplace() as folder:
        (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
        ours: list[float] = []
        bare: list[float] = []
        for _ in range(ROUNDS):
            bare.append(seconds_to_tools([sys.executable, "-c", BARE], folder, plain_environment()))
            ours.append(seconds_to_tools([*PERSTACK, "serve"], folder, plain_environment()))
        heavy = sorted({"litellm", "opentelemetry.sdk", "grpc"} & modules_at_tools(folder))
    ratio = statistics.median(ours) / statistics.median(bare)
    for title, times in (("bare SDK server", bare), ("perstack serve", ours)):
        middle, best = statistics.median(times) * 1000, min(times) * 1000
        say(f"{title:16} median {middle:5.0f} ms  best {best:5.0f} ms")
    say(f"heavy modules imported by then: {', '.join(heavy) or 'none'}")
    conclude(
        "ready",
        holds=ratio <= LIMIT and not heavy,
        seen=f"{ratio:.2f} times a bare SDK server over {ROUNDS} rounds, limit {LIMIT}",
    )


if __name__ == "__main__":
    main()
