"""The MCP server, for both eras of the protocol and any transport: what it answers, and where."""

from typing import Any

from mcp.server import Server

from perstack import __version__
from perstack.server.calls.icons import generated
from perstack.server.calls.sealing import Sealing
from perstack.server.calls.tool_requests import add_tools
from perstack.server.calls.tools import instructions
from perstack.server.changes.change_requests import add_changes
from perstack.server.changes.compat import NotifyingServer
from perstack.server.changes.logs import add_logs
from perstack.server.face import Face
from perstack.server.reading.cache_hints import hints
from perstack.server.reading.completions import add_completions
from perstack.server.reading.prompt_requests import add_prompts
from perstack.server.reading.resource_requests import add_resources
from perstack.server.tasks.requests import add_tasks


def build_server(face: Face) -> Server[dict[str, Any]]:
    """A server on the definitions and offices of `face`."""
    server = NotifyingServer(
        "perstack",
        version=__version__,
        icons=[generated("perstack")],
        title="Perstack",
        instructions=instructions(has_job_tools=face.has_job_tools),
        lifespan=face.changes.deliveries,
        cache_hints=hints(face.list_seconds),
    )
    server.middleware.append(Sealing(face))
    add_changes(server, face)
    add_tools(server, face)
    add_tasks(server, face)
    add_resources(server, face)
    add_prompts(server, face)
    add_completions(server, face)
    add_logs(server)
    return server
