"""The lines of a call's progress as log messages, for clients that read those.

The newest protocol has given logging up, but says how it works until it is gone: nothing is sent
unless the client has named a level, once in the handshake era and with each request since.
"""

from typing import Any, get_args

from mcp.server import Server
from mcp_types import (
    LOG_LEVEL_META_KEY,
    EmptyResult,
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    SetLevelRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from perstack.server.caller import Context
from perstack.server.changes.compat import connection_of

LINE_LEVEL: LoggingLevel = "info"
LOGGER = "perstack"
_LEVELS: tuple[LoggingLevel, ...] = get_args(LoggingLevel)
_KEPT_AS = "perstack.log_level"


def add_logs(server: Server[dict[str, Any]]) -> None:
    """Have `server` take the level that a client of the handshake era wants."""

    async def set_level(context: Context, params: SetLevelRequestParams) -> EmptyResult:
        connection_of(context).state[_KEPT_AS] = params.level
        return EmptyResult()

    server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)


async def log_line(context: Context, line: str) -> None:
    """Send a line to the client, if it wants any of this level."""
    wanted = _wanted(context)
    if wanted is None or _LEVELS.index(LINE_LEVEL) < _LEVELS.index(wanted):
        return
    params = LoggingMessageNotificationParams(level=LINE_LEVEL, logger=LOGGER, data=line)
    notification = LoggingMessageNotification(params=params)
    await context.session.send_notification(notification, context.request_id)


def _wanted(context: Context) -> LoggingLevel | None:
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        level: object = (context.meta or {}).get(LOG_LEVEL_META_KEY)
    else:
        level = connection_of(context).state.get(_KEPT_AS)
    return level if level in _LEVELS else None
