"""A server over HTTP for the proofs: `perstack serve --http` as a process of its own."""

import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from _stage import PERSTACK

_SERVING = re.compile(rb"serving (http://\S+/mcp)")
_START_SECONDS = 30.0
_END_SECONDS = 10.0
_ANSWER_SECONDS = 30.0
_PROTOCOL = "2026-07-28"
_ENVELOPE = "io.modelcontextprotocol"


class HttpServer:
    """The server, from its start until the end of the `with` block.

    Args:
        folder: Where its perstack.toml is.
        environment: All variables that it has.
        options: More arguments of `perstack serve`.

    Attributes:
        url: Of its Streamable HTTP endpoint.
        exit_code: Once it has ended.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *options: str) -> None:
        self.url = ""
        self.exit_code: int | None = None
        self._said: list[bytes] = []
        self._is_serving = threading.Event()
        config = str(folder / "perstack.toml")
        self.process = subprocess.Popen(
            [*PERSTACK, "serve", "--http", "127.0.0.1:0", "--config", config, *options],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._readers = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._drain, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_serving.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the server did not start: {self.stderr}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def stderr(self) -> str:
        """What it has said on stderr so far."""
        return b"".join(self._said).decode(errors="replace")

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def close(self) -> None:
        """End it as a service manager does, and if that does not help, at once."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(_END_SECONDS)
        self.exit_code = self.process.returncode
        for reader in self._readers:
            reader.join(_END_SECONDS)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _listen(self) -> None:
        stderr = self.process.stderr
        if stderr is None:
            return
        for line in stderr:
            self._said.append(line)
            if found := _SERVING.search(line):
                self.url = found[1].decode()
                self._is_serving.set()

    def _drain(self) -> None:
        stdout = self.process.stdout
        if stdout is not None:
            self._said.extend(b"stdout: " + line for line in stdout)


def ask(url: str, method: str, params: dict[str, Any], **capabilities: Any) -> dict[str, Any]:
    """Send one request of the stateless era; the whole answer, result or error, is returned."""
    envelope = {
        f"{_ENVELOPE}/protocolVersion": _PROTOCOL,
        f"{_ENVELOPE}/clientCapabilities": capabilities,
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": envelope}}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": _PROTOCOL,
        "Mcp-Method": method,
        **({"Mcp-Name": params["name"]} if "name" in params else {}),
    }
    request = urllib.request.Request(  # noqa: S310 - an address that this process has chosen
        url, data=json.dumps(message).encode(), headers=headers
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:  # noqa: S310 - as above
            body: bytes = response.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    lines = [line.removeprefix(b"data:") for line in body.splitlines() if b'"jsonrpc"' in line]
    answers: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return next(answer for answer in answers if "method" not in answer)
