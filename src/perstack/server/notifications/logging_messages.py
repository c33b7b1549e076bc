"""Sends the progress of a call as log messages.

The newest protocol deprecates logging. Until it is removed, messages are sent only if the client
has set a level: per connection in the handshake era, per request since.
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

from perstack.server.caller import RequestContext
from perstack.server.notifications.sdk_compat import connection_of

MESSAGE_LEVEL: LoggingLevel = "info"
LOGGER_NAME = "perstack"
_LEVELS: tuple[LoggingLevel, ...] = get_args(LoggingLevel)
_LEVEL_STATE_KEY = "perstack.log_level"


def add_logging(server: Server[dict[str, Any]]) -> None:
    """Handle `logging/setLevel` of clients of the handshake era."""

    async def set_level(context: RequestContext, params: SetLevelRequestParams) -> EmptyResult:
        connection_of(context).state[_LEVEL_STATE_KEY] = params.level
        return EmptyResult()

    server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)


async def send_log_message(context: RequestContext, line: str) -> None:
    """Send a line to the client, if its log level includes `MESSAGE_LEVEL`."""
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        level: object = (context.meta or {}).get(LOG_LEVEL_META_KEY)
    else:
        level = connection_of(context).state.get(_LEVEL_STATE_KEY)
    if level not in _LEVELS or _LEVELS.index(MESSAGE_LEVEL) < _LEVELS.index(level):
        return
    params = LoggingMessageNotificationParams(level=MESSAGE_LEVEL, logger=LOGGER_NAME, data=line)
    notification = LoggingMessageNotification(params=params)
    await context.session.send_notification(notification, context.request_id)
