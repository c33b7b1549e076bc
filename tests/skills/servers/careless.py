"""A stdio MCP server that answers a method with the bytes that it is told to write.

Usage: careless.py JSON, or @FILE with JSON, an object of methods and texts in Latin-1, where ID
stands for the id of the request. The methods that it does not name are answered well; an empty
text is no answer. It notes the methods in file methods.txt.
"""

import json
import sys
from pathlib import Path
from typing import Any

TEXT = Path(sys.argv[1][1:]).read_text() if sys.argv[1].startswith("@") else sys.argv[1]
ANSWERS: dict[str, str] = json.loads(TEXT)
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
        with Path("methods.txt").open("a", encoding="utf-8") as notes:
            notes.write(message["method"] + "\n")
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
