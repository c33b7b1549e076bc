"""A stdio MCP server that asks its caller in the middle of a call, in either era of the protocol.

Of the standard library alone, so that it starts fast. With the word `modern` on the command line it
speaks the protocol without sessions, else the one with the handshake. The result of each tool is
what it was answered, as JSON; `ask` takes the form from its arguments, and `hang` never answers.
"""

import json
import sys
from typing import Any

IS_MODERN = "modern" in sys.argv[1:]
YES_NO = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
TOOLS = [
    {"name": name, "inputSchema": {"type": "object"}}
    for name in ("ask", "ask_page", "ask_twice", "ask_model", "page_first", "hang")
]
asking: dict[str, Any] = {}
visits: list[object] = []
COMPLETE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if IS_MODERN else {}


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def question(params: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = params.get("arguments") or {}
    asked: dict[str, Any] = {"message": arguments.get("message", "Delete it?")}
    if params["name"] == "ask_page":
        page: dict[str, Any] = {
            "mode": "url",
            "url": arguments.get("url", "https://example.com/sign-in"),
        }
        return {**asked, **page, **({} if IS_MODERN else {"elicitationId": "page"})}
    return {**asked, "mode": "form", "requestedSchema": arguments.get("schema", YES_NO)}


def say(answers: object) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(answers)}], **COMPLETE}


def call(request_id: object, params: dict[str, Any]) -> None:
    if params["name"] == "hang":
        return
    if params["name"] == "page_first":
        page_first(request_id)
        return
    asked = 2 if params["name"] == "ask_twice" else 1
    method = "sampling/createMessage" if params["name"] == "ask_model" else "elicitation/create"
    if not IS_MODERN:
        asking[f"ask-{request_id}"] = {"call": request_id, "params": params, "left": asked - 1}
        send({"id": f"ask-{request_id}", "method": method, "params": question(params)})
        return
    answers: list[Any] = json.loads(params.get("requestState") or "[]")
    answers += (params.get("inputResponses") or {}).values()
    if len(answers) == asked:
        send({"id": request_id, "result": say(answers if asked > 1 else answers[0])})
        return
    sample: dict[str, Any] = {"messages": [], "maxTokens": 1}
    form = sample if params["name"] == "ask_model" else question(params)
    result: dict[str, Any] = {
        "resultType": "input_required",
        "inputRequests": {"q": {"method": method, "params": form}},
        "requestState": json.dumps(answers),
    }
    send({"id": request_id, "result": result})


def page_first(request_id: object) -> None:
    if visits:
        send({"id": request_id, "result": say("signed in")})
        return
    visits.append(request_id)
    page = {
        "mode": "url",
        "message": "Sign in.",
        "url": "https://example.com/sign-in",
        "elicitationId": "page",
    }
    error = {"code": -32042, "message": "sign in first", "data": {"elicitations": [page]}}
    send({"id": request_id, "error": error})


def answered(message: dict[str, Any]) -> None:
    open_call = asking.pop(message["id"])
    open_call.setdefault("answers", []).append(message.get("result") or message["error"])
    answers = open_call["answers"]
    if open_call["left"]:
        again = f"{message['id']}-again"
        asking[again] = {**open_call, "left": open_call["left"] - 1}
        params = question(open_call["params"])
        send({"id": again, "method": "elicitation/create", "params": params})
        return
    result = say(answers if len(answers) > 1 else answers[0])
    send({"id": open_call["call"], "result": result})


def hello(method: str, params: dict[str, Any]) -> dict[str, Any]:
    if method == "server/discover":
        return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **COMPLETE}
    return {
        "protocolVersion": params["protocolVersion"],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "asks", "version": "1"},
    }


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        method: str | None = message.get("method")
        params: dict[str, Any] = message.get("params") or {}
        if method is None:
            answered(message)
        elif "id" not in message:
            continue
        elif method == ("server/discover" if IS_MODERN else "initialize"):
            send({"id": message["id"], "result": hello(method, params)})
        elif method == "tools/list":
            send({"id": message["id"], "result": {"tools": TOOLS, **COMPLETE}})
        elif method == "tools/call":
            call(message["id"], params)
        else:
            send({"id": message["id"], "error": {"code": -32601, "message": f"no {method} here"}})


main()
