"""A stdio MCP server of the standard library alone, whose one tool returns a megabyte."""

import json
import sys
from typing import Any

LINES = [
    f"{number:06} {'needle' if number == 9_000 else 'straw'} {'.' * 80}" for number in range(11_000)
]
TOOL = {
    "name": "report",
    "description": "Reports all.",
    "inputSchema": {"type": "object"},
    "annotations": {"readOnlyHint": True},
}


def result(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "report", "version": "1.0.0"},
        }
    if method == "tools/list":
        return {"tools": [TOOL]}
    return {"content": [{"type": "text", "text": "\n".join(LINES)}]}


def main() -> None:
    for line in sys.stdin:
        message: dict[str, Any] = json.loads(line)
        if "id" in message:
            answer = result(message["method"], message.get("params") or {})
            reply = {"jsonrpc": "2.0", "id": message["id"], "result": answer}
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
