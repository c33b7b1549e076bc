"""A server over HTTP: Streamable HTTP, or the older SSE transport, at allowed addresses only."""

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from perstack.definition.model import McpSseSkill
from perstack.definition.references import VARIABLE_REFERENCE
from perstack.errors import SkillError
from perstack.redaction import Redactor, secret_variables
from perstack.skills.address_policy import AddressPolicy
from perstack.skills.connection import ProtocolMode, ServerConnection
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
        self.address_policy = AddressPolicy(
            skill_name=name,
            allow_private=skill.allow_private,
            allowed_domains=skill.allowed_domains,
        )
        self.redactor = Redactor.of_variables(values)
        self.result_redactor = Redactor.of_variables(secret_variables(values))
        self.error_status: int | None = None
        self.connection_error: str | None = None
        self._headers = {
            header: _fill_header(name, header, text, values)
            for header, text in skill.headers.items()
        }

    def create_client(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        """A client that reaches allowed addresses only and follows no redirect by itself."""
        return httpx2.AsyncClient(
            headers={**(headers or {}), **self._headers},
            timeout=TIMEOUT,
            transport=PinnedAddressTransport(self),
            trust_env=False,
        )

    def failure_details(self) -> str:
        if self.connection_error is not None:
            return f"Endpoint: {self.url}: {self.redactor.redact(self.connection_error)}."
        if self.error_status is not None:
            return f"Endpoint: {self.url}: it answered with HTTP status {self.error_status}."
        return f"Endpoint: {self.url}."


class PinnedAddressTransport(httpx2.AsyncBaseTransport):
    """Checks the address of each request, redirects included, and connects to that address."""

    def __init__(self, endpoint: HttpEndpoint) -> None:
        self._endpoint = endpoint
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)
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
        if self.protocol_mode == "legacy":
            async with sse_client(
                endpoint.url, httpx_client_factory=endpoint.create_client
            ) as streams:
                yield streams
        else:
            async with (
                endpoint.create_client() as client,
                streamable_http_client(endpoint.url, http_client=client) as streams,
            ):
                yield streams


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
