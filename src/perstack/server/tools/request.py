"""A `tools/call` request with the way back to its client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import getLogger
from typing import Any, Self

import anyio
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, ElicitResult
from pydantic import ValidationError

from perstack.server.caller import Caller, RequestContext, caller_of
from perstack.server.notifications.logging_messages import send_log_message

LOG = getLogger(__name__)

FORM_SECONDS = 3600.0
"""An unanswered form counts as closed after this, so that no request stays open indefinitely."""


@dataclass(frozen=True, slots=True)
class ToolCallRequest:
    """One `tools/call` request, with the way back to its client."""

    arguments: Mapping[str, Any]
    meta: Mapping[str, Any]
    context: RequestContext
    caller: Caller
    state: str | None = None
    responses: Mapping[str, object] = field(default_factory=dict[str, object])

    @classmethod
    def create(cls, context: RequestContext, params: CallToolRequestParams) -> Self:
        """The request that a handler received."""
        return cls(
            arguments=params.arguments or {},
            meta=dict(context.meta or {}),
            context=context,
            caller=caller_of(context),
            state=params.request_state,
            responses=params.input_responses or {},
        )

    async def elicit(self, message: str, schema: dict[str, Any]) -> ElicitResult:
        """Ask the user with a form while the request is open; `cancel` if that is not possible."""
        session, request_id = self.context.session, self.context.request_id
        try:
            with anyio.move_on_after(FORM_SECONDS):
                return await session.elicit_form(message, schema, request_id)
        except (MCPError, ValidationError) as error:
            LOG.info("The client shows no form: %s", type(error).__name__)
        return ElicitResult(action="cancel")

    async def report(self, progress: float, message: str) -> None:
        """Send a progress notification and a log message, each if the client asked for it."""
        await self.context.session.report_progress(progress, message=message)
        await send_log_message(self.context, message)
