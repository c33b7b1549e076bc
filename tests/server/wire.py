"""A server as its clients have it: a process, lines in and lines out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]

PATIENCE_SECONDS = 40.0
"""How long a test waits for a line before it gives up; a loaded machine is slow."""

PROGRAM = """
import anyio
from pathlib import Path
from perstack.server.bootstrap import ServerOptions
from perstack.server.tools.wait import WaitPolicy
from perstack.server.transports.stdio import serve_stdio
from perstack.settings import Settings

settings = Settings(config=Path("perstack.toml"), home="config", transport="stdio")
anyio.run(serve_stdio, settings, ServerOptions(wait_policy=WaitPolicy(default_seconds=WAIT)))
"""
HANDSHAKE: Message = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "wire", "version": "1"},
}
ENVELOPE: Message = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class WireServer:
    """`serve_stdio` in a process of its own, in a folder with a perstack.toml.

    Every line of its stdout is kept in `lines`, whether it is a message or not.
    """

    def __init__(self, folder: Path, *, wait_seconds: float = 45, options: tuple[str, ...] = ()):
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self.lines: list[bytes] = []
        self._arrived: Queue[Message | None] = Queue()
        self._aside: list[Message] = []
        self._last_id = 0
        program = PROGRAM.replace("WAIT", repr(wait_seconds))
        self.process = subprocess.Popen(
            [sys.executable, *options, "-c", program],
            cwd=folder,
            env=kept,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.errors: list[bytes] = []
        self._readers = [
            threading.Thread(target=self._read_messages, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    @property
    def stderr(self) -> str:
        """What it has said on stderr so far."""
        return b"".join(self.errors).decode(errors="replace")

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.write(data)
        stdin.flush()

    def notify(self, method: str, params: Message | None = None) -> None:
        """Send a notification."""
        self._send({"method": method, "params": params or {}})

    def request(self, method: str, params: Message | None = None) -> int:
        """Send a request and return its id."""
        self._last_id += 1
        self._send({"id": self._last_id, "method": method, "params": params or {}})
        return self._last_id

    def ask(self, method: str, params: Message | None = None) -> Message:
        """Send a request and return the message that answers it."""
        return self.answer(self.request(method, params))

    def handshake(self) -> Message:
        """What a client of the handshake era does first; the server's introduction is returned."""
        introduction: Message = self.ask("initialize", HANDSHAKE)["result"]
        self.notify("notifications/initialized")
        return introduction

    def call(self, tool: str, **arguments: Any) -> int:
        """Call a tool, asking for progress, and return the id of the request."""
        token = {"progressToken": self._last_id + 1}
        return self.request("tools/call", {"name": tool, "arguments": arguments, "_meta": token})

    def answer(self, request_id: int) -> Message:
        """The answer to a request. Other messages are kept for `next`."""
        return self.next(lambda message: "method" not in message and message["id"] == request_id)

    def progress(self) -> Message:
        """The parameters of the next progress notification."""
        params: Message = self.next(
            lambda message: message.get("method") == "notifications/progress"
        )["params"]
        return params

    def next(self, wanted: Callable[[Message], bool]) -> Message:
        """The next message that is wanted."""
        for index, message in enumerate(self._aside):
            if wanted(message):
                return self._aside.pop(index)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                message = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise AssertionError(f"no answer in time\n{self.stderr}") from None
            if message is None:
                self._arrived.put(None)
                raise AssertionError(f"the server has ended\n{self.stderr}")
            if wanted(message):
                return message
            self._aside.append(message)

    def close(self) -> int:
        """Close its stdin; returns the exit code."""
        stdin = self.process.stdin
        assert stdin is not None
        stdin.close()
        return self.process.wait(PATIENCE_SECONDS)

    def interrupt(self, signal_number: signal.Signals) -> int:
        """Send it a signal; returns the exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE_SECONDS)

    def _send(self, message: Message) -> None:
        self.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def _read_messages(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            try:
                self._arrived.put(json.loads(line))
            except ValueError:
                continue
        self._arrived.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line)
