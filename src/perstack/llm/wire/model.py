"""The Model port on the wire formats that are spoken directly."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import orjson

from perstack.definition.model import Expert, ModelChoice, Provider
from perstack.definition.provider_tools import ProviderTools
from perstack.errors import ConfigError, ModelError
from perstack.llm.errors import (
    invalid_response_error,
    message_from_body,
    network_error,
    response_error,
    status_error,
    timeout_error,
)
from perstack.llm.media import (
    has_media,
    reduced_conversations,
    says_that_model_is_blind,
    without_media,
)
from perstack.llm.providers.connection import (
    PROXY_VARIABLE,
    ProviderConnection,
    resolve_connection,
)
from perstack.llm.providers.profile import WireName
from perstack.llm.providers.registry import provider_profile
from perstack.llm.selection import ModelSelector
from perstack.llm.tool_fitting import fit_request
from perstack.llm.wire.anthropic_messages import AnthropicMessages
from perstack.llm.wire.anthropic_vertex import AnthropicVertex
from perstack.llm.wire.aws_signature import signed_headers
from perstack.llm.wire.bedrock_converse import BedrockConverse
from perstack.llm.wire.chat_completions import ChatCompletions
from perstack.llm.wire.event_stream import EventStream
from perstack.llm.wire.files import fetch_files
from perstack.llm.wire.format import (
    ConnectionFailedError,
    ErrorStatusError,
    HttpResponse,
    ReplyReader,
    StreamContent,
    StreamError,
    WireFormat,
)
from perstack.llm.wire.framing import Framing, JsonLines, ServerSentEvents
from perstack.llm.wire.gemini import Gemini
from perstack.llm.wire.google_tokens import GoogleTokens
from perstack.llm.wire.ollama_chat import OllamaChat
from perstack.llm.wire.reply import (
    FileReference,
    InvalidReplyError,
    JsonObject,
    ReplyBuilder,
    parse_payload,
)
from perstack.llm.wire.responses import Responses
from perstack.runtime.ports import Deltas, Generation, GenerationRequest, Model

if TYPE_CHECKING:
    from perstack.llm.wire.client import HttpClient

DRAIN_SECONDS = 0.1
"""How long the end of a body is waited for after the end of the reply, to keep its connection."""

_CLIENT_MODULE = "perstack.llm.wire.client"
_UNAUTHORIZED = 401
_REFUSED_CONTENT = frozenset({400, 413, 415, 422})

_FRAMINGS: dict[str, Callable[[], Framing]] = {
    "text/event-stream": ServerSentEvents,
    "application/x-ndjson": JsonLines,
    "application/jsonl": JsonLines,
    "application/vnd.amazon.eventstream": EventStream,
}
_DEFAULT_FRAMINGS: dict[StreamContent, Callable[[], Framing]] = {
    "events": ServerSentEvents,
    "lines": JsonLines,
    "frames": EventStream,
}

_FORMATS: dict[WireName, WireFormat] = {
    "anthropic_messages": AnthropicMessages(),
    "anthropic_vertex": AnthropicVertex(),
    "bedrock_converse": BedrockConverse(),
    "chat_completions": ChatCompletions(),
    "gemini": Gemini(),
    "ollama_chat": OllamaChat(),
    "responses": Responses(),
}


class WireModel:
    """Models of every provider: directly where its format is spoken here, else through another.

    Args:
        selector: Which model generates for which expert.
        environment: Where keys and addresses come from: the environment with the values of the
            `.env` files. The process's own is not read.
        other: Reaches the models of other formats.
    """

    def __init__(
        self,
        selector: ModelSelector,
        environment: Mapping[str, str],
        other: Model,
    ) -> None:
        self._selector = selector
        self._environment = environment
        self._other = other
        self._connections: dict[str, tuple[Provider, ProviderConnection]] = {}
        self._without_media: set[tuple[str, str]] = set()
        self._client: HttpClient | None = None
        self._client_lock = anyio.Lock()
        self._google_tokens = GoogleTokens(environment, self._open_client)

    def choose(self, expert: Expert) -> ModelChoice:
        choice = self._selector.choose(expert)
        self._connection(choice)
        for fallback in choice.fallbacks:
            self._check_fallback(fallback)
        return choice

    def _check_fallback(self, choice: ModelChoice) -> None:
        """Find out what it lacks before the moment at which it is needed."""
        try:
            resolve_connection(choice.provider, choice.model, self._environment)
        except ConfigError as error:
            message = f"the fallback {choice.model} cannot be used: {error.message}"
            raise ConfigError(message, hint=error.hint) from error

    def is_ready(self, choice: ModelChoice) -> bool:
        if provider_profile(choice.provider.provider_name).wire_format is None:
            return self._other.is_ready(choice)
        has_token = self._google_tokens.is_current or not self._needs_google_token(choice)
        return self._client is not None and has_token

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        provider = self._selector.provider if choice is None else choice.provider
        if provider_profile(provider.provider_name).wire_format is None:
            await self._other.warm_up(choice)
            return
        await self._open_client()
        if choice is not None and self._needs_google_token(choice):
            try:
                with anyio.fail_after(choice.timeout_seconds):
                    await self._google_tokens.headers()
            except TimeoutError as error:
                name = provider.provider_name
                raise timeout_error(choice.timeout_seconds, provider=name) from error

    def _needs_google_token(self, choice: ModelChoice) -> bool:
        if provider_profile(choice.provider.provider_name).authorization != "google":
            return False
        connection = self._connection(choice)
        return not connection.has_own_authorization

    def _connection(self, choice: ModelChoice) -> ProviderConnection:
        known = self._connections.get(choice.model)
        if known is None or known[0] is not choice.provider:
            connection = resolve_connection(choice.provider, choice.model, self._environment)
            known = self._connections[choice.model] = (choice.provider, connection)
        return known[1]

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            client, self._client = self._client, None
            if client is not None:
                await client.aclose()
            await self._other.aclose()

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        choice = request.choice
        connection = self._connection(choice)
        name = connection.profile.wire_format_for(request.provider_tools)
        if name is None:
            return await self._other.generate(request, deltas)
        if connection.endpoint in self._without_media:
            request = replace(request, messages=without_media(request.messages))
        request, sent_names = fit_request(request, connection.profile)
        builder = ReplyBuilder(deltas, request.on_usage, connection.profile.name)
        exchange = partial(
            self._exchange, _FORMATS[name], connection, builder, is_stream=deltas is not None
        )
        try:
            with anyio.fail_after(choice.timeout_seconds):
                reply = await self._show_what_fits(exchange, request, connection)
        except TimeoutError:
            failure = timeout_error(choice.timeout_seconds, provider=connection.profile.name)
        except (ConnectionFailedError, ErrorStatusError, StreamError, InvalidReplyError) as error:
            secrets = (*connection.secrets, *self._google_tokens.secrets)
            failure = _to_model_error(error, connection, secrets)
            if failure.status == _UNAUTHORIZED:
                self._google_tokens.forget()
        else:
            generation = sent_names.restore(reply)
            return await self._with_files(generation, builder.files, connection, request)
        # Outside the handler, so that no context hangs on it: that holds the request and its key.
        raise failure

    async def _with_files(
        self,
        generation: Generation,
        references: Sequence[FileReference],
        connection: ProviderConnection,
        request: GenerationRequest,
    ) -> Generation:
        """The reply with the files that the provider keeps; it says itself which are missing."""
        part = generation.provider_part
        if not references or part is None:
            return generation
        client = await self._open_client()
        headers = _headers(connection, connection.key_headers, request.provider_tools)

        def get(path: str) -> AbstractAsyncContextManager[HttpResponse]:
            return client.send(connection.file_url(path), headers, None, method="GET")

        files, missing = await fetch_files(references, get)
        if missing:
            content = {**part.content, "missingFiles": missing}
            part = part.model_copy(update={"content": content})
        return replace(generation, media=(*generation.media, *files), provider_part=part)

    async def _show_what_fits(
        self,
        exchange: Callable[[GenerationRequest], Awaitable[Generation]],
        request: GenerationRequest,
        connection: ProviderConnection,
    ) -> Generation:
        """Ask, and again without images, files and tools of the provider if these are refused."""
        try:
            return await exchange(request)
        except ErrorStatusError as error:
            if error.response.status not in _REFUSED_CONTENT:
                raise
            for messages in reduced_conversations(request.messages):
                try:
                    generation = await exchange(replace(request, messages=messages))
                except ErrorStatusError:
                    continue
                is_blind = says_that_model_is_blind(message_from_body(error.response.body))
                if is_blind and not has_media(messages):
                    self._without_media.add(connection.endpoint)
                return generation
            raise

    async def _exchange(
        self,
        wire: WireFormat,
        connection: ProviderConnection,
        builder: ReplyBuilder,
        request: GenerationRequest,
        *,
        is_stream: bool,
    ) -> Generation:
        client = await self._open_client()
        started = anyio.current_time()
        url = wire.url(connection, is_stream=is_stream)
        body = _encode(wire.body(request, connection, is_stream=is_stream))
        authorization = await self._authorize(connection, url, body)
        headers = _headers(connection, authorization, request.provider_tools)
        async with client.send(url, headers, body) as response:
            framing = _framing(wire, response, is_stream=is_stream)
            reader = wire.reader(builder)
            if framing is None:
                reader.add_whole(parse_payload(await _read_all(response)))
                return builder.build()
            first_chunk_seconds = await _read_stream(response, framing, reader, started)
            return builder.build(first_chunk_seconds if is_stream else None)

    async def _authorize(
        self, connection: ProviderConnection, url: str, body: bytes
    ) -> Mapping[str, str]:
        """The headers that authorize a request."""
        if connection.signing is not None:
            now = datetime.now(UTC)  # noqa: TID251 - AWS compares it with its own clock
            return signed_headers(url, body, connection.signing, now)
        if connection.profile.authorization == "google":
            is_needed = not connection.has_own_authorization
            return await self._google_tokens.headers() if is_needed else {}
        return connection.key_headers

    async def _open_client(self) -> "HttpClient":
        async with self._client_lock:
            client = self._client
            if client is None:
                # In a thread, because importing it takes long.
                module: Any = await anyio.to_thread.run_sync(import_module, _CLIENT_MODULE)
                proxy = self._environment.get(PROXY_VARIABLE)
                client = self._client = module.HttpClient(self._environment, proxy)
            return client


def _headers(
    connection: ProviderConnection, authorization: Mapping[str, str], tools: ProviderTools
) -> dict[str, str]:
    """The headers of a request; what tools need is added to a list that the user may send."""
    headers = {**authorization, **connection.headers}
    for name, needed in connection.profile.provider_tool_headers(tools).items():
        own = next((each for each in headers if each.lower() == name), name)
        headers[own] = f"{headers[own]},{needed}" if own in headers else needed
    return headers


def _encode(body: JsonObject) -> bytes:
    """The body as JSON; numbers that JSON lacks become `null`."""
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        # Lone surrogates, which become `?`, or what is deeper or larger than it takes.
        plain = json.loads(json.dumps(body), parse_constant=lambda _: None)
        return _to_json(plain).encode("utf-8", "replace")


_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _framing(wire: WireFormat, response: HttpResponse, *, is_stream: bool) -> Framing | None:
    """The framing of a body; `None` for one document, which a server may send unasked."""
    framing = _FRAMINGS.get(response.content_type)
    if framing is not None:
        return framing()
    if not is_stream or response.content_type == "application/json":
        return None
    return _DEFAULT_FRAMINGS[wire.stream_content]()


async def _read_all(response: HttpResponse) -> bytes:
    return b"".join([piece async for piece in response.pieces])


async def _read_stream(
    response: HttpResponse, framing: Framing, reader: ReplyReader, started: float
) -> float | None:
    """Read until the reply ends; returns the seconds to its first payload."""
    first_chunk_seconds: float | None = None
    async for piece in response.pieces:
        for payload in framing.feed(piece):
            if first_chunk_seconds is None:
                first_chunk_seconds = anyio.current_time() - started
            if reader.add(payload):
                await _drain(response)
                return first_chunk_seconds
    for payload in framing.finish():
        reader.add(payload)
    return first_chunk_seconds


async def _drain(response: HttpResponse) -> None:
    with anyio.move_on_after(DRAIN_SECONDS):
        async for _ in response.pieces:
            pass


def _to_model_error(
    error: Exception, connection: ProviderConnection, secrets: tuple[str, ...]
) -> ModelError:
    provider = connection.profile.name
    match error:
        case ConnectionFailedError():
            event = "lost" if error.is_lost else "cannot reach"
            return network_error(
                f"{event} {connection.host}: {error}",
                provider=provider,
                secrets=secrets,
                is_retryable=error.is_retryable,
            )
        case ErrorStatusError():
            now = datetime.now(UTC)  # noqa: TID251 - compared with a date of the provider's clock
            return response_error(error.response, provider=provider, secrets=secrets, now=now)
        case StreamError(status=int(status)):
            return status_error(status, str(error), provider=provider, secrets=secrets)
        case _:
            return invalid_response_error(error, provider=provider, secrets=secrets, is_stream=True)
