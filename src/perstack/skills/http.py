"""A server over HTTP: Streamable HTTP, or the older SSE transport, at allowed addresses only."""

import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import anyio
import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._stream_protocols import ReadStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage

from perstack.definition.model import McpSseSkill
from perstack.definition.references import VARIABLE_REFERENCE
from perstack.errors import SkillError
from perstack.redaction import (
    Redactor,
    command_line_secrets,
    redact_named_values,
    secret_variables,
)
from perstack.skills.address_policy import AddressPolicy
from perstack.skills.connection import ProtocolMode, ServerConnection
from perstack.skills.http_responses import (
    MAX_BODY_BYTES,
    MessageTransport,
    SseMessageTransport,
)
from perstack.skills.server_command import required_values

# Statuses by which a server of the older transport refuses the first message of the newer one.
LEGACY_SERVER_STATUSES = frozenset({400, 404, 405})
# No read limit: the connection limits how long a call may take.
TIMEOUT = httpx2.Timeout(30.0, read=None)


class HttpEndpoint:
    """The URL and headers of a remote skill, and how its last request failed.

    Args:
        name: Name of the skill.
        skill: Its definition.
        environment: Where `${NAME}` in a header is looked up, for the names in `requiredEnv`.

    Raises:
        SkillError: A required variable is not set, or a header names one that is not required.
    """

    def __init__(self, name: str, skill: McpSseSkill, environment: Mapping[str, str]) -> None:
        values = required_values(name, skill.required_env, environment)
        self.url = skill.endpoint
        self._name = name
        self.address_policy = AddressPolicy(
            skill_name=name,
            allow_private=skill.allow_private,
            allowed_domains=skill.allowed_domains,
        )
        self.redactor = Redactor.of_variables(values)
        written = [f"{header}: {text}" for header, text in skill.headers.items()]
        self.redactor.add(command_line_secrets([skill.endpoint, *written]))
        self.result_redactor = Redactor.of_variables(secret_variables(values))
        self.error_status: int | None = None
        self.refusal: str | None = None
        self.connection_error: str | None = None
        self._environment = environment
        self._headers = {
            header: _fill_header(name, header, text, values)
            for header, text in skill.headers.items()
        }

    def create_client(self, transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
        """A client that follows no redirect by itself."""
        return httpx2.AsyncClient(
            headers=self._headers, timeout=TIMEOUT, transport=transport, trust_env=False
        )

    def create_ssl_context(self) -> ssl.SSLContext | Literal[True]:
        """What certificates are checked by; `True` for what the system trusts.

        Raises:
            SkillError: A file or folder with certificates cannot be read.
        """
        file = self._environment.get("SSL_CERT_FILE") or None
        folder = self._environment.get("SSL_CERT_DIR") or None
        if file is None and folder is None:
            return True
        try:
            return ssl.create_default_context(cafile=file, capath=folder)
        except OSError as error:
            raise SkillError(
                f"Skill {self._name!r} cannot be used: the certificates in {file or folder!r}"
                f" cannot be read: {error.strerror or error}.",
                skill=self._name,
                hint="Correct SSL_CERT_FILE or SSL_CERT_DIR.",
            ) from error

    def report_refusal(self, words: str) -> None:
        """Keep what the server said when it last refused a message."""
        self.refusal = words

    def failure_details(self) -> str:
        details = f"Endpoint: {redact_named_values(self.url)}"
        if self.connection_error is not None:
            details += f": {self.redactor.redact(self.connection_error)}"
        elif self.refusal is not None:
            details += f": it answered: {self.redactor.redact(self.refusal)}"
        elif self.error_status is not None:
            details += f": it answered with HTTP status {self.error_status}"
        return f"{details}."


class PinnedAddressTransport(httpx2.AsyncBaseTransport):
    """Checks the address of each request, redirects included, and connects to that address."""

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._inner = httpx2.AsyncHTTPTransport(
            verify=endpoint.create_ssl_context(), trust_env=False
        )
        self._pinned_addresses: dict[str, str] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        origin = f"{request.url.scheme}://{request.url.netloc.decode()}"
        pinned_address = self._pinned_addresses.get(origin)
        candidates = (
            (pinned_address,) if pinned_address is not None else await self._resolve(request)
        )
        for position, address in enumerate(candidates, start=1):
            try:
                response = await self._inner.handle_async_request(_with_address(request, address))
            except httpx2.ConnectError as error:
                self._pinned_addresses.pop(origin, None)
                self._endpoint.connection_error = str(error) or type(error).__name__
                if position == len(candidates):
                    raise
            else:
                self._pinned_addresses[origin] = address
                self._endpoint.connection_error = None
                if not response.is_success:
                    self._endpoint.error_status = response.status_code
                return response
        raise httpx2.ConnectError("the name has no address", request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _resolve(self, request: httpx2.Request) -> tuple[str, ...]:
        try:
            return await self._endpoint.address_policy.resolve(str(request.url))
        except SkillError as error:
            self._endpoint.connection_error = error.message
            raise httpx2.ConnectError(error.message, request=request) from error


def _with_address(request: httpx2.Request, address: str) -> httpx2.Request:
    """The same request to a checked address; certificate and Host header stay those of the name."""
    return httpx2.Request(
        method=request.method,
        url=request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


class HttpTransport:
    """One connection over Streamable HTTP, or in `legacy` mode over HTTP with SSE."""

    skill_type = "mcpSseSkill"
    spawn_seconds = 0.0

    def __init__(self, endpoint: HttpEndpoint, protocol_mode: ProtocolMode = "auto") -> None:
        self.protocol_mode: ProtocolMode = protocol_mode
        self.redactor = endpoint.redactor
        self.result_redactor = endpoint.result_redactor
        self._endpoint = endpoint

    def on_ready(self, *, is_older: bool) -> None:
        """Nothing: another transport costs a request, which says what the server knows now."""

    def fallback(self) -> "HttpTransport | None":
        """The older transport, for a server that refused the first message as its servers do."""
        if self.protocol_mode == "auto" and self._endpoint.error_status in LEGACY_SERVER_STATUSES:
            return HttpTransport(self._endpoint, "legacy")
        return None

    def failure_details(self) -> str:
        return self._endpoint.failure_details()

    @asynccontextmanager
    async def open(self, connection: ServerConnection) -> AsyncGenerator[Any]:
        """The streams; leaving ends the session.

        Raises:
            SkillError: The endpoint is not allowed.
        """
        endpoint = self._endpoint
        await endpoint.address_policy.resolve(endpoint.url)
        inner = PinnedAddressTransport(endpoint)
        if self.protocol_mode == "legacy":
            async with _open_sse(endpoint, inner, connection) as streams:
                yield streams
        else:
            transport = MessageTransport(inner, connection.on_output, endpoint.report_refusal)
            async with (
                endpoint.create_client(transport) as client,
                streamable_http_client(
                    endpoint.url, http_client=client, max_sse_event_size=MAX_BODY_BYTES
                ) as streams,
            ):
                yield streams


@asynccontextmanager
async def _open_sse(
    endpoint: HttpEndpoint, inner: PinnedAddressTransport, connection: ServerConnection
) -> AsyncGenerator[Any]:
    """The streams of the older transport, with the refusals of messages among what it reads."""
    writer, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)

    async def deliver(message: JSONRPCMessage) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await writer.send(SessionMessage(message))

    async def forward(received: ReadStream[SessionMessage | Exception]) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for item in received:
                await writer.send(item)
        writer.close()
        # The next call opens another stream, instead of being lost with this one.
        connection.end()

    def create_client(*_options: Any, **_more_options: Any) -> httpx2.AsyncClient:
        transport = SseMessageTransport(
            inner, connection.on_output, endpoint.report_refusal, deliver
        )
        return endpoint.create_client(transport)

    with writer, read_stream:
        async with (
            sse_client(endpoint.url, httpx_client_factory=create_client) as (received, outgoing),
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(forward, received)
            yield read_stream, outgoing
            tasks.cancel_scope.cancel()


def _fill_header(name: str, header: str, text: str, values: Mapping[str, str]) -> str:
    def replace_variable(match: re.Match[str]) -> str:
        variable = match.group(1)
        if variable not in values:
            raise SkillError(
                f"Skill {name!r}: header {header!r} uses {variable!r}, which it does not require.",
                skill=name,
                hint=f"Add {variable!r} to its `requiredEnv`.",
            )
        return values[variable]

    return VARIABLE_REFERENCE.sub(replace_variable, text)
