"""Seals what a client keeps for us between two rounds of questions, so that it cannot be changed.

The key is in the workspace: any process that serves the same workspace can go on with the call.
"""

import os
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

from mcp.server.context import CallNext, HandlerResult
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.shared.exceptions import MCPError
from mcp_types.methods import is_input_required

from perstack.errors import PerstackError
from perstack.server.caller import RequestContext, caller_of
from perstack.server.context import ServerContext
from perstack.server.tools.results import call_error_result

LOG = getLogger(__name__)
VALID_SECONDS = 24 * 3600.0
KEY_BYTES = 32
KEY_FILE = "request-state.key"
AUDIENCE = "perstack"
INVALID_REQUEST_STATE = {"reason": "invalid_request_state"}


class RequestStateMiddleware:
    """A server's middleware: seals the state of questions on the way out, checks it on the way in.

    Args:
        server_context: Where the callers' offices are, which have the keys.
    """

    def __init__(self, server_context: ServerContext) -> None:
        self._server_context = server_context

    async def __call__(self, ctx: RequestContext, call_next: CallNext) -> HandlerResult:
        if ctx.method != "tools/call":
            return await call_next(ctx)
        if _has_request_state(ctx.params):
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
            boundary = await self._create_boundary(context)
        except PerstackError as error:
            return call_error_result(error)
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

    async def _create_boundary(self, context: RequestContext) -> RequestStateBoundary:
        key = (
            await self._server_context.tenants.services_for(caller_of(context))
        ).request_state_key
        security = RequestStateSecurity(keys=[key], ttl=VALID_SECONDS)
        return RequestStateBoundary(security, default_audience=AUDIENCE)


def request_state_key(folder: Path) -> bytes:
    """The key that is kept in `folder`, made if there is none yet; only its owner can read it.

    Where it cannot be kept, it is good for this process only.
    """
    path = folder / KEY_FILE
    try:
        return _read_key(path) or _create_key(path)
    except OSError as error:
        LOG.warning("The key %s cannot be kept: %s", path, error.strerror)
        return os.urandom(KEY_BYTES)


def _read_key(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == KEY_BYTES else None


def _create_key(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{KEY_FILE}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(KEY_BYTES))
    try:
        os.link(draft, path)
    except FileExistsError:
        if _read_key(path) is None:  # a damaged one
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path.read_bytes()


def _has_request_state(params: Mapping[str, Any] | None) -> bool:
    return params is not None and params.get("requestState") is not None
