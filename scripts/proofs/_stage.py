"""What the proofs share: a place to work in, and a plain way to talk to an MCP server."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PROTOCOL = "2025-06-18"
PERSTACK = [sys.executable, "-m", "perstack"]


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def conclude(name: str, *, holds: bool, seen: str) -> NoReturn:
    """End the proof with its one line."""
    say(f"{name}: {seen}" if holds else f"{name}: DOES NOT HOLD, {seen}")
    raise SystemExit(0 if holds else 1)


@contextmanager
def workplace() -> Generator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="perstack-proof-") as folder:
        yield Path(folder)


def plain_environment(**extra: str) -> dict[str, str]:
    """An environment without anybody's keys or telemetry."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **extra}


class StdioServer:
    """An MCP server as a child process, spoken to line by line."""

    def __init__(self, command: list[str], *, cwd: Path, environment: dict[str, str]) -> None:
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._last_id = 0

    def send(self, method: str, params: dict[str, Any] | None = None) -> int:
        """Send a request; its id is returned."""
        self._last_id += 1
        self._write({"id": self._last_id, "method": method, "params": params or {}})
        return self._last_id

    def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        """Send a notification."""
        self._write({"method": method, "params": params or {}})

    def answer(self, request_id: int) -> dict[str, Any]:
        """Read until the answer to a request has come."""
        for line in _open(self.process.stdout):
            message: dict[str, Any] = json.loads(line)
            if message.get("id") == request_id and "method" not in message:
                return message
        raise RuntimeError(f"the server ended: {self.stderr()}")

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and wait for its result."""
        answer = self.answer(self.send(method, params))
        if "error" in answer:
            raise RuntimeError(f"{method} failed: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def handshake(self) -> None:
        """Do what a client of the handshake era does first."""
        client = {"name": "proof", "version": "1"}
        self.ask(
            "initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}
        )
        self.notify("notifications/initialized")

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool; the structured result is returned."""
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        structured: dict[str, Any] = result.get("structuredContent") or {}
        return structured

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(10)

    def close(self) -> int:
        """Close its stdin and wait for its exit code."""
        _open(self.process.stdin).close()
        return self.process.wait(10)

    def stderr(self) -> str:
        """What it said on stderr; only after its end."""
        self.process.wait(10)
        return _open(self.process.stderr).read().decode(errors="replace")

    def _write(self, message: dict[str, Any]) -> None:
        stdin = _open(self.process.stdin)
        stdin.write((json.dumps({"jsonrpc": "2.0", **message}) + "\n").encode())
        stdin.flush()


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the server was started without pipes")
    return pipe
