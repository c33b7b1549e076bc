"""What every request passes through before it is answered."""

from typing import Any

from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST

from perstack.server.caller import LOCAL_PRINCIPAL, RequestContext, caller_of
from perstack.server.middleware.audit import AuditMiddleware
from perstack.server.tenants.registry import TenantRegistry

SUBSCRIPTIONS_LISTEN = "subscriptions/listen"
"""A request that stays open for as long as its client does, and needs no engine meanwhile."""


class TenantMiddleware:
    """Middleware of a server that keeps an engine open while it is used.

    Args:
        tenants: Has the engines.
        requires_auth: Whether nobody without a token is to be answered. The transport has seen to
            that already; but should a way in ever be left open, it leads nowhere.
    """

    def __init__(self, tenants: TenantRegistry, *, requires_auth: bool) -> None:
        self._tenants = tenants
        self._requires_auth = requires_auth

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        """Pass on a request of somebody who is known."""
        principal = caller_of(ctx).principal
        if self._requires_auth and principal == LOCAL_PRINCIPAL:
            raise MCPError(code=INVALID_REQUEST, message="Authentication required.")
        if ctx.method == SUBSCRIPTIONS_LISTEN:
            return await call_next(ctx)
        with self._tenants.lease(principal):
            return await call_next(ctx)


def add_middleware(
    server: Server[dict[str, Any]], tenants: TenantRegistry, *, requires_auth: bool
) -> None:
    """Have every request of `server` written down, and nobody answered who is not known."""
    # Just inside the span of the request, and so around everything that could refuse it.
    server.middleware[1:1] = [
        AuditMiddleware(),
        TenantMiddleware(tenants, requires_auth=requires_auth),
    ]
