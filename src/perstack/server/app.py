"""The MCP server, for both protocol eras and every transport: its middleware and its handlers."""

from typing import Any

from mcp.server import Server

from perstack import __version__
from perstack.server.caller import identify_caller
from perstack.server.context import ServerContext
from perstack.server.handlers.prompts import add_completions, add_prompts
from perstack.server.handlers.resources import add_resources, cache_hints
from perstack.server.handlers.subscriptions import add_subscriptions
from perstack.server.handlers.tasks import add_tasks
from perstack.server.handlers.tools import add_tools
from perstack.server.middleware.audit import AuditMiddleware
from perstack.server.middleware.request_params import validate_params
from perstack.server.middleware.request_state import RequestStateMiddleware
from perstack.server.middleware.tenant import TenantMiddleware
from perstack.server.notifications.logging_messages import add_logging
from perstack.server.notifications.sdk_compat import NotifyingServer
from perstack.server.tools.definitions import instructions
from perstack.server.tools.icons import generate_icon


def build_server(server_context: ServerContext) -> Server[dict[str, Any]]:
    """Create a server that answers with what `server_context` holds."""
    server = NotifyingServer(
        "perstack",
        version=__version__,
        icons=[generate_icon("perstack")],
        title="Perstack",
        instructions=instructions(has_job_tools=server_context.has_job_tools),
        lifespan=server_context.notifications.lifespan,
        cache_hints=cache_hints(server_context.list_ttl_seconds),
    )
    # Outermost first, inside the SDK's own middleware, which opens the span of a request.
    server.middleware += [
        identify_caller,
        AuditMiddleware(),
        validate_params,
        TenantMiddleware(server_context),
        RequestStateMiddleware(server_context),
    ]
    for add_handlers in (
        add_subscriptions,
        add_tools,
        add_tasks,
        add_resources,
        add_prompts,
        add_completions,
    ):
        add_handlers(server, server_context)
    add_logging(server)
    return server
