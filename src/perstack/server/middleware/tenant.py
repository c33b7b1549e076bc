"""Authorizes requests, and keeps the engine of a tenant open while its requests are answered."""

from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST

from perstack.server.caller import LOCAL_PRINCIPAL, RequestContext, caller_of
from perstack.server.context import ServerContext

SUBSCRIPTIONS_LISTEN = "subscriptions/listen"
"""Stays open for as long as its client does, and needs no engine meanwhile."""


class TenantMiddleware:
    """Holds a lease on the caller's tenant for each request.

    Where authentication is required it refuses requests without a token. The transport does so
    too: this is defence in depth.
    """

    def __init__(self, server_context: ServerContext) -> None:
        self._server_context = server_context

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        principal = caller_of(ctx).principal
        if self._server_context.requires_auth and principal == LOCAL_PRINCIPAL:
            raise MCPError(code=INVALID_REQUEST, message="Authentication required.")
        if ctx.method == SUBSCRIPTIONS_LISTEN:
            return await call_next(ctx)
        with self._server_context.tenants.lease(principal):
            return await call_next(ctx)
