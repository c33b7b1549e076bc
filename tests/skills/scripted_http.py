"""An HTTP server that answers calls of tools as a test says, over either transport."""

import json
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

RESULTS: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "scripted", "version": "1"},
    },
    "tools/list": {
        "tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("look", "echo")]
    },
    "tools/call": {"content": [{"type": "text", "text": "well"}]},
}


@dataclass(frozen=True)
class Reply:
    """A response of HTTP; in its body, ID stands for the id of the request."""

    body: str | bytes = ""
    status: int = 200
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


SILENCE = Reply(media_type="none")
"""No response at all."""


@dataclass
class ScriptedHttp:
    """What the server does and has seen.

    Attributes:
        replies: For methods, and for calls of tool `look`; one after the other, the last for ever.
        origin: Where it is: Streamable HTTP at /mcp, the older transport at /sse.
        closing: Set at the end.
        events: What goes out over the older transport; `None` ends its stream.
        sessions: The sessions that it knows; without any, another one is given out.
        unknown_session: Its answer to a request of a session that it does not know.
        methods: The methods that were asked for, calls with the names of their tools.
    """

    replies: dict[str, list[Reply]] = field(default_factory=dict)
    sessions: set[str] = field(default_factory=set)
    unknown_session: Reply = Reply(status=404)
    methods: list[str] = field(default_factory=list)
    origin: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    events: "queue.Queue[bytes | None]" = field(default_factory=queue.Queue)

    def forget_sessions(self) -> None:
        self.sessions.clear()

    def reply_to(self, message: dict[str, Any], session: str | None) -> Reply:
        method: str = message["method"]
        name = message["params"]["name"] if method == "tools/call" else method
        self.methods.append(name)
        if method == "initialize":
            number = self.methods.count("initialize")
            self.sessions.add(f"s{number}")
            headers = {"mcp-session-id": f"s{number}"}
        elif method != "server/discover" and session not in self.sessions:
            return self.unknown_session
        else:
            headers = {}
        if scripted := self.replies.get(name):
            return scripted.pop(0) if len(scripted) > 1 else scripted[0]
        if "id" not in message:
            return Reply(status=202)
        outcome = (
            {"result": RESULTS[method]}
            if method in RESULTS
            else {"error": {"code": -32601, "message": "Method not found"}}
        )
        document = {"jsonrpc": "2.0", "id": message["id"], **outcome}
        return Reply(json.dumps(document), headers=headers)


class _Server(ThreadingHTTPServer):
    script: ScriptedHttp


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def script(self) -> ScriptedHttp:
        return cast("_Server", self.server).script

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name there
        """Nothing."""

    def do_POST(self) -> None:
        script = self.script
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_streamed = self.path.startswith("/messages")
        known = next(iter(script.sessions), None)
        session = known if is_streamed else self.headers.get("mcp-session-id")
        reply = script.reply_to(message, session)
        if reply is SILENCE:
            script.closing.wait()
        body = reply.body.encode() if isinstance(reply.body, str) else reply.body
        body = body.replace(b"ID", json.dumps(message.get("id")).encode())
        if not is_streamed or reply.status >= HTTPStatus.BAD_REQUEST:
            self._send(reply, body)
            return
        self._send(Reply(status=202, media_type=""), b"")
        lines = b"".join(b"data: " + line + b"\n" for line in body.splitlines())
        script.events.put(b"event: message\n" + lines + b"\n")

    def do_GET(self) -> None:
        if self.path != "/sse":
            self._send(Reply(status=405), b"")
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        event: bytes | None = b"event: endpoint\ndata: /messages?session_id=1\n\n"
        while event is not None:
            self.wfile.write(event)
            event = self.script.events.get()

    def do_DELETE(self) -> None:
        self._send(Reply(), b"")

    def _send(self, reply: Reply, body: bytes) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.media_type:
            self.send_header("content-type", reply.media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def scripted_http(
    replies: dict[str, list[Reply]] | None = None,
    tls: Callable[[ThreadingHTTPServer], None] | None = None,
) -> Generator[ScriptedHttp]:
    """A server that answers methods, or calls of tools, by these replies."""
    script = ScriptedHttp(replies or {})

    server = _Server(("127.0.0.1", 0), _Handler)
    server.script = script
    if tls is not None:
        tls(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.origin = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield script
    finally:
        script.closing.set()
        script.events.put(None)
        server.shutdown()
        thread.join()
        server.server_close()
