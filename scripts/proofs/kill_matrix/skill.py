"""A stdio MCP server whose tools leave a line in a file: one must not be repeated, one may.

Both lines bear the idempotency key of their call. `append` writes whenever it is called; `put`,
which declares itself idempotent, writes once for each key. An `order.json` beside the files has the
server send a signal to the process that it works for: before or after the effect of its n-th call.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

EFFECTS, CALLS, ORDER = Path("effects.jsonl"), Path("calls.jsonl"), Path("order.json")
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
TOOLS: list[dict[str, Any]] = [
    {"name": "append", "inputSchema": SCHEMA},
    {"name": "put", "inputSchema": SCHEMA, "annotations": {"idempotentHint": True}},
]


def send(message: dict[str, Any]) -> None:
    """Write one message to the client."""
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def note(path: Path, record: dict[str, Any]) -> None:
    """Append a line in one piece."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def strike(place: str, number: int) -> None:
    """End the process that is worked for, if this is the moment."""
    if not ORDER.exists():
        return
    order = json.loads(ORDER.read_text(encoding="utf-8"))
    if (order["place"], order["number"]) != (place, number):
        return
    os.kill(int(Path("pid").read_text(encoding="utf-8")), order["signal"])
    if order["signal"] == signal.SIGKILL:
        os._exit(0)  # as if the power had gone: what was not done yet is not done any more


def act(params: dict[str, Any], number: int) -> None:
    """What the tool is for."""
    record = {
        "tool": params["name"],
        "text": params["arguments"]["text"],
        "key": params["_meta"]["perstack/idempotencyKey"],
    }
    note(CALLS, record)
    strike("acting", number)
    done = EFFECTS.read_text(encoding="utf-8").splitlines() if EFFECTS.exists() else []
    if record["tool"] == "append" or json.dumps(record) not in done:
        note(EFFECTS, record)
    strike("acted", number)


def main() -> None:
    """Serve until stdin ends."""
    number = 0
    for line in sys.stdin:
        message: dict[str, Any] = json.loads(line)
        params: dict[str, Any] = message.get("params") or {}
        result: dict[str, Any] = {}
        match message.get("method"):
            case "initialize":
                result = {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "ledger", "version": "1"},
                }
            case "tools/list":
                result = {"tools": TOOLS}
            case "tools/call":
                number += 1
                act(params, number)
                result = {"content": [{"type": "text", "text": "written"}]}
            case _:
                pass
        if "id" in message:
            send({"id": message["id"], "result": result})


if __name__ == "__main__":
    main()
