"""The server as a program, for clients that are programs themselves."""

import argparse
import dataclasses
import json
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TextIO

from tests.model_server.request import Request
from tests.model_server.script_file import ScriptFileError, parse_script
from tests.model_server.server import ModelServer

_SECRET_HEADERS = {"authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"}
_SECRET_QUERY = re.compile(r"([?&](?:key|api_key)=)[^&]*")


def main(arguments: list[str]) -> int:
    """Serve until SIGINT or SIGTERM; 0 then, 2 when the script cannot be read."""
    options = _parser().parse_args(arguments)
    try:
        script = parse_script(json.loads(Path(options.script).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        kind = "" if isinstance(error, ScriptFileError) else "cannot read the script: "
        sys.stderr.write(f"{options.script}: {kind}{error}\n")
        return 2
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with Path(options.log).open("a", encoding="utf-8", buffering=1) as log:
        server = ModelServer(script, port=options.port, on_request=_writer(log))
        with server:
            ready = {"port": server.port, "baseUrl": server.base_url}
            sys.stdout.write(json.dumps(ready) + "\n")
            sys.stdout.flush()
            stopped.wait()
            for failure in server.failures:
                sys.stderr.write(f"{options.script}: {failure}\n")
            server.failures.clear()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.model_server", description=__doc__)
    parser.add_argument("--script", required=True, help="JSON file; see script_file.py")
    parser.add_argument("--log", required=True, help="file that gets a JSON line for each call")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free port")
    return parser


def _writer(log: TextIO) -> Callable[[Request], None]:
    def write(request: Request) -> None:
        log.write(json.dumps(log_entry(request), ensure_ascii=False) + "\n")

    return write


def log_entry(request: Request) -> dict[str, object]:
    """A model call as it is logged: neutral and raw, without the values of keys."""
    neutral = dataclasses.asdict(request.conversation)
    headers = {
        name: "***" if name in _SECRET_HEADERS else value for name, value in request.headers.items()
    }
    return {
        "number": request.number,
        "receivedAt": request.received_at,
        "dialect": request.dialect,
        "path": _SECRET_QUERY.sub(r"\1***", request.path),
        "headers": headers,
        **neutral,
        "body": request.body,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
