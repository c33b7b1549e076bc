"""An MCP server of the official SDK over HTTP, on a listening socket that it is given.

Usage: web.py FD. Streamable HTTP is at /mcp, the older transport at /sse.
"""

import json
import socket
import sys

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

server = MCPServer("web", version="4.5.6", log_level="CRITICAL")
cancelled: list[str] = []


@server.tool()
def echo(text: str) -> str:
    """Says it again."""
    return text


@server.tool()
def headers(ctx: Context) -> str:
    """The headers of the request."""
    return json.dumps(dict(ctx.headers or {}))


@server.tool()
def meta(ctx: Context) -> str:
    """What came along with the request."""
    return json.dumps(dict(ctx.request_context.meta or {}))


@server.tool()
async def wait() -> None:
    """Never ends by itself."""
    try:
        await anyio.sleep_forever()
    finally:
        cancelled.append("wait")


@server.tool()
def cancellations() -> str:
    """Which calls were cancelled."""
    return json.dumps(cancelled)


@server.tool()
def ask() -> InputRequiredResult:
    """Wants something in return."""
    params = ElicitRequestFormParams(
        message="Name?", requested_schema={"type": "object", "properties": {}}
    )
    return InputRequiredResult(input_requests={"name": ElicitRequest(params=params)})


@server.custom_route("/away", methods=["GET", "POST"])
async def away(_request: Request) -> Response:
    """Another host."""
    return RedirectResponse("http://198.51.100.7/mcp", status_code=307)


@server.custom_route("/forbidden", methods=["GET", "POST"])
async def forbidden(_request: Request) -> Response:
    """A refusal."""
    return PlainTextResponse("no", status_code=403)


def main() -> None:
    app = server.streamable_http_app()
    app.router.routes.extend(server.sse_app().routes)
    config = uvicorn.Config(app, log_level="critical", lifespan="on")
    # Not by `fd`: uvicorn would take it for a Unix socket and leave out TCP_NODELAY.
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


main()
