"""Seals `requestState`, which a client keeps between two rounds of questions, against tampering."""

from mcp.server.context import CallNext, HandlerResult
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types.methods import is_input_required

from perstack.errors import PerstackError
from perstack.server.caller import RequestContext, caller_of
from perstack.server.context import ServerContext
from perstack.server.tools.results import error_result

VALID_SECONDS = 24 * 3600.0
AUDIENCE = "perstack"
INVALID_REQUEST_STATE = {"reason": "invalid_request_state"}


class RequestStateMiddleware:
    """Seals the request state of results, and verifies that of requests, with the tenant's key."""

    def __init__(self, server_context: ServerContext) -> None:
        self._server_context = server_context

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        if (ctx.params or {}).get("requestState") is not None:
            return await self._through_boundary(ctx, call_next)
        result = await call_next(ctx)
        if not is_input_required(result):
            return result

        async def return_result(_ctx: RequestContext) -> HandlerResult:
            return result

        return await self._through_boundary(ctx, return_result)

    async def _through_boundary(
        self, context: RequestContext, call_next: CallNext
    ) -> HandlerResult:
        try:
            services = await self._server_context.tenants.services_for(caller_of(context))
        except PerstackError as error:
            return error_result(error)
        security = RequestStateSecurity(keys=[services.request_state_key], ttl=VALID_SECONDS)
        boundary = RequestStateBoundary(security, default_audience=AUDIENCE)
        try:
            return await boundary(context, call_next)
        except MCPError as error:
            if error.data != INVALID_REQUEST_STATE:
                raise
            raise MCPError(
                code=error.code,
                message=f"{error.message}: the answer came too late, or belongs to another call. "
                "Call the tool with the job_id and the answer as query instead.",
                data=INVALID_REQUEST_STATE,
            ) from None
