"""A stdio MCP server with three tools: `first` and `second` answer together, `place` tells where.

`first` and `second` wait for each other, as long as both are called at once. With the argument
`cross`, it says a line on stderr when it starts.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
NAMES = ("first", "second", "place")


def send(message: dict[str, Any]) -> None:
    """Write one message to the client."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(request_id: Any, text: str) -> None:
    """Give the result of a call."""
    send({"id": request_id, "result": {"content": [{"type": "text", "text": text}]}})


def call(request_id: Any, name: str, waiting: dict[str, Any]) -> None:
    """Answer a call, or keep it until its counterpart has come."""
    if name == "place":
        answer(request_id, json.dumps({"cwd": str(Path.cwd()), "env": sorted(os.environ)}))
        return
    waiting[name] = request_id
    if {"first", "second"} <= waiting.keys():
        for each in ("second", "first"):
            answer(waiting.pop(each), f"{each} answered")


def main() -> None:
    """Serve until stdin ends."""
    if "cross" in sys.argv:
        sys.stderr.write("this skill is cross\n")
        sys.stderr.flush()
    waiting: dict[str, Any] = {}
    for line in sys.stdin:
        message: dict[str, Any] = json.loads(line)
        params: dict[str, Any] = message.get("params") or {}
        match message.get("method"):
            case "initialize":
                version = params["protocolVersion"]
                info = {"name": "pair", "version": "1.0.0"}
                result: dict[str, Any] = {"protocolVersion": version, "serverInfo": info}
                send({"id": message["id"], "result": {**result, "capabilities": {"tools": {}}}})
            case "tools/list":
                tools = [{"name": name, "inputSchema": SCHEMA} for name in NAMES]
                send({"id": message["id"], "result": {"tools": tools}})
            case "tools/call":
                call(message["id"], params["name"], waiting)
            case _ if "id" in message:
                error = {"code": -32601, "message": "there is no such method"}
                send({"id": message["id"], "error": error})
            case _:
                pass


if __name__ == "__main__":
    main()
