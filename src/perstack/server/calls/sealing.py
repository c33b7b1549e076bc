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
from perstack.server.caller import Context, caller_of
from perstack.server.calls.refusal import refused
from perstack.server.face import Face

LOG = getLogger(__name__)
VALID_SECONDS = 24 * 3600.0
KEY_BYTES = 32
KEY_FILE = "request-state.key"
AUDIENCE = "perstack"
REFUSED = {"reason": "invalid_request_state"}


class Sealing:
    """A server's middleware: seals the state of questions on the way out, checks it on the way in.

    Args:
        face: Where the callers' offices are, which have the keys.
    """

    def __init__(self, face: Face) -> None:
        self._face = face

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Handle one message."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        if _carries_state(ctx.params):
            return await self._passed(ctx, call_next)
        result = await call_next(ctx)
        if not is_input_required(result):
            return result

        async def answered(_ctx: Context) -> HandlerResult:
            return result

        return await self._passed(ctx, answered)

    async def _passed(self, context: Context, call_next: CallNext) -> HandlerResult:
        try:
            boundary = await self._boundary(context)
        except PerstackError as error:
            return refused(error)
        try:
            return await boundary(context, call_next)
        except MCPError as error:
            if error.data != REFUSED:
                raise
            raise MCPError(
                code=error.code,
                message=f"{error.message}: the answer came too late, or belongs to another call. "
                "Call the tool with the job_id and the answer as query instead.",
                data=REFUSED,
            ) from None

    async def _boundary(self, context: Context) -> RequestStateBoundary:
        key = (await self._face.offices.office(caller_of(context))).seal_key
        security = RequestStateSecurity(keys=[key], ttl=VALID_SECONDS)
        return RequestStateBoundary(security, default_audience=AUDIENCE)


def seal_key(folder: Path) -> bytes:
    """The key that is kept in `folder`, made if there is none yet; only its owner can read it.

    Where it cannot be kept, it is good for this process only.
    """
    path = folder / KEY_FILE
    try:
        return _kept(path) or _made(path)
    except OSError as error:
        LOG.warning("The key %s cannot be kept: %s", path, error.strerror)
        return os.urandom(KEY_BYTES)


def _kept(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    return key if len(key) == KEY_BYTES else None


def _made(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{KEY_FILE}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(os.urandom(KEY_BYTES))
    try:
        os.link(draft, path)
    except FileExistsError:
        if _kept(path) is None:  # a damaged one
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path.read_bytes()


def _carries_state(params: Mapping[str, Any] | None) -> bool:
    return params is not None and params.get("requestState") is not None
