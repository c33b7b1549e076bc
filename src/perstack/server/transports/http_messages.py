"""HTTP requests as clients write them, put into the one form that the SDK takes.

The SDK compares headers letter by letter and takes one message a request. Clients differ in what
they accept, in how they write media types, and in the bytes around their JSON.
"""

from dataclasses import dataclass, field

import anyio
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from mcp_types import INVALID_REQUEST, JSONRPCError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from perstack.json_lines import BLANK, decode_message, encode_message, parse_json
from perstack.server.caller import READS_ONE_BODY
from perstack.server.transports.batches import Batch, encode_batch, parse_batch
from perstack.server.transports.content_negotiation import (
    EVENT_STREAM,
    JSON,
    JsonBody,
    media_type_of,
    quality,
)
from perstack.server.transports.jsonrpc_errors import invalid_message_error, jsonrpc_error

BAD_REQUEST = 400
ACCEPTS_BOTH = f"{JSON}, {EVENT_STREAM}"


class HttpMessages:
    """ASGI middleware that reads requests liberally and answers in the form that is accepted.

    Args:
        app: Answers well-formed requests.
        negotiates: Whether it does so in the response; else that says only that the message came.
    """

    def __init__(self, app: ASGIApp, *, negotiates: bool = True) -> None:
        self._app = app
        self._negotiates = negotiates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        accept = ", ".join(headers.getlist("accept"))
        wants_json, wants_events = quality(accept, JSON), quality(accept, EVENT_STREAM)
        if scope["method"] != "POST":
            if wants_events:
                scope = _with_headers(scope, accept=ACCEPTS_BOTH)
            await self._app(scope, receive, send)
        elif self._negotiates and not (wants_json or wants_events):
            await _refuse(406, f"Accept {JSON} or {EVENT_STREAM}", scope, receive, send)
        elif media_type_of(headers.get("content-type", "")) != JSON:
            await _refuse(415, f"The Content-Type must be {JSON}", scope, receive, send)
        else:
            scope = _with_headers(scope, accept=ACCEPTS_BOTH, content_type=JSON)
            if self._negotiates and wants_json > wants_events:
                scope[READS_ONE_BODY] = True
                send = JsonBody(send).send
            await self._post(scope, receive, send)

    async def _post(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive)
        version = Headers(scope=scope).get(MCP_PROTOCOL_VERSION_HEADER)
        batch = parse_batch(parse_json(body), version) if body.lstrip(BLANK)[:1] == b"[" else None
        if isinstance(batch, JSONRPCError):
            await _respond(400, encode_message(batch), scope, receive, send)
        elif batch is not None:
            await self._post_batch(batch, scope, receive, send)
        elif (message := decode_message(body)) is None:
            error = encode_message(invalid_message_error(body))
            await _respond(400, error, scope, receive, send)
        else:
            await self._app(scope, _replay(encode_message(message), receive), send)

    async def _post_batch(self, batch: Batch, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a batch with the answers to its requests in one body.

        It has no stream on which its user could be asked.
        """
        scope[READS_ONE_BODY] = True
        responses = [_CapturedResponse() for _ in batch.messages]
        async with anyio.create_task_group() as tasks:
            for message, response in zip(batch.messages, responses, strict=True):
                replay = _replay(encode_message(message), receive)
                tasks.start_soon(self._capture, dict(scope), replay, response)
        refused = [response for response in responses if response.status >= BAD_REQUEST]
        answers = [bytes(response.body) for response in responses if response.body]
        answers += [encode_message(refusal) for refusal in batch.refusals]
        if refused and len(refused) == len(responses):
            # The session is lost, for example, which the status tells.
            await _respond(refused[0].status, bytes(refused[0].body), scope, receive, send)
        elif answers and self._negotiates:
            await _respond(200, encode_batch(answers), scope, receive, send)
        else:
            await _respond(202, b"", scope, receive, send)

    async def _capture(self, scope: Scope, receive: Receive, response: "_CapturedResponse") -> None:
        await self._app(scope, receive, JsonBody(response.send).send)


@dataclass(slots=True)
class _CapturedResponse:
    status: int = 0
    body: bytearray = field(default_factory=bytearray)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message.get("body", b"")


def _with_headers(scope: Scope, **values: str) -> Scope:
    changed = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=changed)
    for name, value in values.items():
        headers[name.replace("_", "-")] = value
    return changed


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """The rest of a request whose body has been read: the body again, then what follows."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(status: int, problem: str, scope: Scope, receive: Receive, send: Send) -> None:
    error = encode_message(jsonrpc_error(None, INVALID_REQUEST, problem))
    await _respond(status, error, scope, receive, send)


async def _respond(status: int, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
    media_type = JSON if body else None
    await Response(body.strip(), status, media_type=media_type)(scope, receive, send)
