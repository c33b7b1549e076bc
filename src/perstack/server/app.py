"""The MCP server, for both eras of the protocol and any transport: what it answers, and where."""

from typing import Any

from mcp.server import Server

from perstack import __version__
from perstack.server.cache_hints import hints
from perstack.server.change_requests import add_changes
from perstack.server.compat import NotifyingServer
from perstack.server.completions import add_completions
from perstack.server.face import Face
from perstack.server.icons import generated
from perstack.server.logs import add_logs
from perstack.server.prompt_requests import add_prompts
from perstack.server.resource_requests import add_resources
from perstack.server.sealing import Sealing
from perstack.server.task_requests import add_tasks
from perstack.server.tool_requests import add_tools
from perstack.server.tools import instructions


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
