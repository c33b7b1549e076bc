"""A stdio MCP server that answers a method with the bytes that it is told to write.

Usage: careless.py JSON, an object of methods and texts in Latin-1, where ID stands for the id of
the request. The methods that it does not name are answered well; an empty text is no answer.
"""

import json
import sys
from typing import Any

ANSWERS: dict[str, str] = json.loads(sys.argv[1])
RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "careless", "version": "1"},
    },
    "tools/list": {
        "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("look", "echo")]
    },
    "tools/call": {"content": [{"type": "text", "text": "well"}]},
}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        method, request_id = message["method"], json.dumps(message.get("id"))
        if method == "tools/call" and message["params"]["name"] == "echo":
            answer = None
        else:
            answer = ANSWERS.get(method)
        if answer is not None:
            sys.stdout.buffer.write(answer.replace("ID", request_id).encode("latin-1"))
        elif "id" in message:
            outcome = (
                {"result": RESULTS[method]}
                if method in RESULTS
                else {"error": {"code": -32601, "message": "Method not found"}}
            )
            document = {"jsonrpc": "2.0", "id": message["id"], **outcome}
            sys.stdout.buffer.write(json.dumps(document).encode() + b"\n")
        sys.stdout.buffer.flush()


main()
