"""The MCP server, for both eras of the protocol and any transport: what it answers, and where."""

from typing import Any

from mcp.server import Server

from perstack import __version__
from perstack.server.face import Face
from perstack.server.resource_requests import add_resources
from perstack.server.tool_requests import add_tools
from perstack.server.tools import instructions


def build_server(face: Face) -> Server[dict[str, Any]]:
    """A server on the definitions and offices of `face`."""
    server: Server[dict[str, Any]] = Server(
        "perstack",
        version=__version__,
        title="Perstack",
        instructions=instructions(has_job_tools=face.has_job_tools),
    )
    add_tools(server, face)
    add_resources(server, face)
    return server
