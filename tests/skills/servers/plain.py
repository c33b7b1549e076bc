"""A stdio MCP server of the standard library alone: it starts fast and misbehaves on request.

Its options are words on the command line:
    name=TEXT         server name
    page=N            tools a page
    deaf              ignores the end of stdin and SIGTERM
    offspring         starts a grandchild that ignores SIGTERM, and names it in file offspring.pid
    strict            ends at the sight of anything before `initialize`
    mute              never answers
    greet             greets on stdout
    complain          writes secrets to stderr and ends with code 3
    endless           has no last page of tools
    toolless          offers no tools
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OPTIONS = {word.partition("=")[0]: word.partition("=")[2] for word in sys.argv[1:]}

GRANDCHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "w", encoding="ascii") as note:
    note.write(str(os.getpid()))
while True:
    time.sleep(60)
"""

TEXT = {"type": "object", "properties": {"text": {"type": "string"}}}
TOOLS: list[dict[str, Any]] = [
    {"name": "echo", "description": "Says it again.", "inputSchema": TEXT},
    {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "put", "inputSchema": {"type": "object"}, "annotations": {"idempotentHint": True}},
    {"name": "meta", "inputSchema": {"type": "object"}},
    {"name": "env", "inputSchema": {"type": "object"}},
    {"name": "cwd", "inputSchema": {"type": "object"}},
    {"name": "pid", "inputSchema": {"type": "object"}},
    {"name": "error", "inputSchema": {"type": "object"}},
    {"name": "refuse", "inputSchema": {"type": "object"}},
    {"name": "die", "inputSchema": {"type": "object"}},
    {"name": "wait", "inputSchema": {"type": "object"}},
    {"name": "cancelled", "inputSchema": {"type": "object"}},
    {
        "name": "stray",
        "inputSchema": {"type": "object"},
        "outputSchema": {"type": "object", "required": ["x"]},
    },
    {"name": "dotted.näme", "title": "Dotted", "inputSchema": {"type": "object"}},
]
cancelled: list[Any] = []


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def say(text: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": text}]}


def call(params: dict[str, Any]) -> dict[str, Any] | None:
    arguments: dict[str, Any] = params.get("arguments") or {}
    texts = {
        "echo": str(arguments.get("text", "")),
        "meta": json.dumps(params.get("_meta")),
        "env": json.dumps(dict(os.environ)),
        "cwd": str(Path.cwd()),
        "pid": str(os.getpid()),
        "cancelled": json.dumps(cancelled),
    }
    match params["name"]:
        case "error":
            return {**say("it did not work"), "isError": True}
        case "die":
            os._exit(7)
        case "wait":
            Path("waiting").touch()
            return None
        case "stray":
            return {**say("kept"), "structuredContent": {"y": 1}}
        case name:
            return say(texts.get(name, f"{name} done"))


def listed(params: dict[str, Any]) -> dict[str, Any]:
    size = int(OPTIONS.get("page") or len(TOOLS))
    start = int(params.get("cursor") or 0)
    if "endless" in OPTIONS:
        return {"tools": [], "nextCursor": str(start + 1)}
    more = {"nextCursor": str(start + size)} if start + size < len(TOOLS) else {}
    return {"tools": TOOLS[start : start + size], **more}


def answer(message: dict[str, Any]) -> None:
    method: str = message["method"]
    params: dict[str, Any] = message.get("params") or {}
    if method == "notifications/cancelled":
        cancelled.append(params)
    if "id" not in message or "mute" in OPTIONS:
        return
    if method == "initialize":
        result: dict[str, Any] | None = {
            "protocolVersion": params["protocolVersion"],
            "capabilities": {"prompts": {}} if "toolless" in OPTIONS else {"tools": {}},
            "serverInfo": {"name": OPTIONS.get("name") or "plain", "version": "1.2.3"},
        }
    elif method == "tools/list" and "toolless" not in OPTIONS:
        result = listed(params)
    elif method == "tools/call" and params["name"] != "refuse":
        result = call(params)
    else:
        send({"id": message["id"], "error": {"code": -32601, "message": f"no {method} here"}})
        return
    if result is not None:
        send({"id": message["id"], "result": result})


def main() -> None:
    if "deaf" in OPTIONS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "offspring" in OPTIONS:
        subprocess.Popen([sys.executable, "-S", "-c", GRANDCHILD, "offspring.pid"])
    if "greet" in OPTIONS:
        sys.stdout.write("Welcome to the plain server!\n")
    if "complain" in OPTIONS:
        sys.stderr.write(f"bad key {os.environ.get('SERVICE_TOKEN')} of {sys.argv}\nso I leave\n")
        sys.exit(3)
    for line in sys.stdin:
        message = json.loads(line)
        if "strict" in OPTIONS and message["method"] != "initialize":
            sys.exit(1)
        OPTIONS.pop("strict", "")
        answer(message)
    while "deaf" in OPTIONS:
        time.sleep(60)


main()
