"""The MCP server, for both eras of the protocol and any transport: what it answers, and where."""

from typing import Any

from mcp.server import Server

from perstack import __version__
from perstack.server.context import ServerContext
from perstack.server.handlers.prompts import add_completions, add_prompts
from perstack.server.handlers.resources import add_resources, cache_hints
from perstack.server.handlers.subscriptions import add_subscriptions
from perstack.server.handlers.tasks import add_tasks
from perstack.server.handlers.tools import add_tools
from perstack.server.middleware.request_state import RequestStateMiddleware
from perstack.server.notifications.logging_messages import add_logging
from perstack.server.notifications.sdk_compat import NotifyingServer
from perstack.server.tools.definitions import instructions
from perstack.server.tools.icons import generate_icon


def build_server(server_context: ServerContext) -> Server[dict[str, Any]]:
    """A server on the definitions and offices of `server_context`."""
    server = NotifyingServer(
        "perstack",
        version=__version__,
        icons=[generate_icon("perstack")],
        title="Perstack",
        instructions=instructions(has_job_tools=server_context.has_job_tools),
        lifespan=server_context.notifications.lifespan,
        cache_hints=cache_hints(server_context.list_ttl_seconds),
    )
    server.middleware.append(RequestStateMiddleware(server_context))
    add_subscriptions(server, server_context)
    add_tools(server, server_context)
    add_tasks(server, server_context)
    add_resources(server, server_context)
    add_prompts(server, server_context)
    add_completions(server, server_context)
    add_logging(server)
    return server
