"""What every request passes through before it is answered."""

from typing import Any

from mcp.server import Server
from mcp.server.context import CallNext, HandlerResult
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST

from perstack.server.caller import LOCAL, Context, caller_of
from perstack.server.users.audit import Audit
from perstack.server.users.reception import Reception

LISTENING = "subscriptions/listen"
"""A request that stays open for as long as its client does, and needs no engine meanwhile."""


class Doorkeeper:
    """Middleware of a server that keeps an engine open while it is used.

    Args:
        reception: Has the engines.
        knows_users: Whether nobody without a token is to be answered. The transport has seen to
            that already; but should a way in ever be left open, it leads nowhere.
    """

    def __init__(self, reception: Reception, *, knows_users: bool) -> None:
        self._reception = reception
        self._knows_users = knows_users

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Pass on a request of somebody who is known."""
        principal = caller_of(ctx).principal
        if self._knows_users and principal == LOCAL:
            raise MCPError(code=INVALID_REQUEST, message="Authentication required.")
        if ctx.method == LISTENING:
            return await call_next(ctx)
        with self._reception.visit(principal):
            return await call_next(ctx)


def add_oversight(
    server: Server[dict[str, Any]], reception: Reception, *, knows_users: bool
) -> None:
    """Have every request of `server` written down, and nobody answered who is not known."""
    # Just inside the span of the request, and so around everything that could refuse it.
    server.middleware[1:1] = [Audit(), Doorkeeper(reception, knows_users=knows_users)]
