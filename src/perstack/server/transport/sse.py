"""The HTTP+SSE transport of older clients: a stream of events down, posted messages up."""

from logging import CRITICAL, getLogger
from typing import Any

from mcp.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import Receive, Scope, Send

from perstack.server.transport.afterlife import outliving

SSE_PATH = "/sse"
MESSAGES_PATH = "/messages/"


class SseEndpoint:
    """Serves each client for as long as its stream is open, and its calls to their end.

    Args:
        server: Answers the requests.
        security: Which hosts and origins are let in.
        max_body_bytes: Of one message.
    """

    def __init__(
        self,
        server: Server[dict[str, Any]],
        security: TransportSecuritySettings,
        max_body_bytes: int,
    ) -> None:
        self._server = server
        # Of a message that is none it would log all there is, with a traceback. The client is told.
        getLogger("mcp.server.sse").setLevel(CRITICAL)
        self._transport = SseServerTransport(MESSAGES_PATH, security, max_body_bytes)

    async def stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI application: one client's stream of events."""
        async with self._transport.connect_sse(scope, receive, send) as (incoming, outgoing):
            hearing, speaking = outliving(incoming, outgoing)
            options = self._server.create_initialization_options()
            await self._server.run(hearing, speaking, options)

    async def post(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI application: one message of a client."""
        await self._transport.handle_post_message(scope, receive, send)
