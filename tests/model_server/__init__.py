"""A model endpoint for tests: scripted replies in the wire formats of real providers."""

from tests.model_server.fault import (
    Cut,
    Hang,
    Held,
    HttpError,
    Malformed,
    Reset,
    Slow,
    StreamError,
)
from tests.model_server.gate import Gate
from tests.model_server.reply import Reply, ToolCall, Usage, Verbatim, call
from tests.model_server.request import Message, Request
from tests.model_server.script import (
    CallTool,
    Queue,
    Respond,
    Routes,
    Script,
    ScriptError,
    route,
)
from tests.model_server.server import ModelServer, model_server

__all__ = [
    "CallTool",
    "Cut",
    "Gate",
    "Hang",
    "Held",
    "HttpError",
    "Malformed",
    "Message",
    "ModelServer",
    "Queue",
    "Reply",
    "Request",
    "Reset",
    "Respond",
    "Routes",
    "Script",
    "ScriptError",
    "Slow",
    "StreamError",
    "ToolCall",
    "Usage",
    "Verbatim",
    "call",
    "model_server",
    "route",
]
