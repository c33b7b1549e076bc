"""A stdio MCP server that answers with what the file `raw.json` holds, however wrong it is.

Its keys:
    is_modern         whether it speaks the protocol of 2026-07-28
    stderr            what it writes there at first
    capabilities      of the server; `{"tools": {}}` if it is left out
    pages             by cursor, `""` for the first: the result of `tools/list`
    result            of a call
    changed_pages     what takes the place of `pages` with the first call, which says so
"""

import json
import sys
from pathlib import Path
from typing import Any

FACTS: dict[str, Any] = json.loads(Path("raw.json").read_text(encoding="utf-8"))
TOOL = {"name": "look", "inputSchema": {"type": "object"}}
pages: dict[str, Any] = FACTS.get("pages", {"": {"tools": [TOOL]}})


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


listening: dict[str, Any] = {}
sys.stderr.write(FACTS.get("stderr", ""))
sys.stderr.flush()

for line in sys.stdin:
    request = json.loads(line)
    params: dict[str, Any] = request.get("params") or {}
    result: Any = None
    match request["method"]:
        case "initialize":
            result = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": FACTS.get("capabilities", {"tools": {}}),
                "serverInfo": {"name": "raw", "version": "1"},
            }
        case "server/discover" if "is_modern" in FACTS:
            result = {
                "supportedVersions": ["2026-07-28"],
                "capabilities": FACTS.get("capabilities", {"tools": {}}),
                "resultType": "complete",
                "ttlMs": 0,
                "cacheScope": "private",
            }
        case "subscriptions/listen":
            listening = {"_meta": {"io.modelcontextprotocol/subscriptionId": request["id"]}}
            accepted = {"notifications": params["notifications"], **listening}
            send({"method": "notifications/subscriptions/acknowledged", "params": accepted})
            continue
        case "tools/list":
            result = pages.get(params.get("cursor", ""))
        case "tools/call":
            result = FACTS.get("result", {"content": [{"type": "text", "text": "looked"}]})
            if "changed_pages" in FACTS:
                pages = FACTS.pop("changed_pages")
                changed = {"method": "notifications/tools/list_changed"}
                send(changed | ({"params": listening} if listening else {}))
        case _:
            pass
    if "id" in request and result is not None:
        send({"id": request["id"], "result": result})
    elif "id" in request:
        error = {"code": -32601, "message": f"no {request['method']} here"}
        send({"id": request["id"], "error": error})
