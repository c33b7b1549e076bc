"""The Model port on litellm.

The only module that imports litellm, and it does so in a thread, when a model is first needed.
"""

import gc
import importlib
import logging
import os
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

import anyio
import anyio.to_thread

from perstack.definition.model import Expert, ModelChoice
from perstack.errors import ModelError
from perstack.llm.errors import (
    invalid_response_error,
    network_error,
    request_build_error,
    response_error,
    timeout_error,
)
from perstack.llm.litellm_responses import StreamedResponse, parse_response
from perstack.llm.messages import can_think, chat_messages, chat_tools
from perstack.llm.providers.connection import (
    PROXY_VARIABLE,
    ProviderConnection,
    resolve_connection,
)
from perstack.llm.selection import ModelSelector
from perstack.llm.tool_fitting import fit_request
from perstack.runtime.ports import Deltas, Generation, GenerationRequest

_LITELLM_ENVIRONMENT = {
    # Otherwise litellm copies the .env of a folder above its own into the process's environment.
    "LITELLM_MODE": "PRODUCTION",
    # Otherwise importing litellm fetches its price list from the network.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    # Otherwise the openai route walks the whole history through another SDK, at five times the
    # cost of a call.
    "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER": "True",
}
_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")


class LiteLlmModel:
    """Models of every provider that litellm reaches.

    Args:
        selector: Which model generates for which expert.
        environment: Where keys and addresses come from: the environment with the values of the
            `.env` files. The process's own is not read.
    """

    def __init__(self, selector: ModelSelector, environment: Mapping[str, str]) -> None:
        self._selector = selector
        self._environment = environment
        self._load_lock = anyio.Lock()
        self._litellm: _LiteLlm | None = None

    def choose(self, expert: Expert) -> ModelChoice:
        return self._selector.choose(expert)

    def is_ready(self, choice: ModelChoice) -> bool:
        return self._litellm is not None

    async def warm_up(self, choice: ModelChoice | None = None) -> None:
        """Import what the first generation needs, so that it does not wait for it."""
        await self._load()

    async def aclose(self) -> None:
        """Close the connections that are kept open."""
        litellm, self._litellm = self._litellm, None
        if litellm is not None:
            with anyio.CancelScope(shield=True):
                await litellm.client.close()

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        choice = request.choice
        connection = resolve_connection(choice.provider, choice.model, self._environment)
        litellm = await self._load()
        call = _GenerationCall(litellm, connection, request)
        try:
            with anyio.fail_after(choice.timeout_seconds):
                generation = await call.run(deltas)
        except TimeoutError as error:
            raise timeout_error(choice.timeout_seconds, provider=connection.profile.name) from error
        # litellm puts its own name of the provider before some models.
        prefix = connection.litellm_model.removesuffix(choice.model)
        response_model = (generation.response_model or choice.model).removeprefix(prefix)
        return replace(generation, response_model=response_model)

    async def _load(self) -> "_LiteLlm":
        async with self._load_lock:
            if self._litellm is None:
                self._litellm = await anyio.to_thread.run_sync(
                    _load_litellm, self._environment.get(PROXY_VARIABLE), abandon_on_cancel=True
                )
            return self._litellm


@dataclass(frozen=True, slots=True)
class _LiteLlm:
    """The parts of litellm that are used.

    Attributes:
        acompletion: litellm's call.
        client: Its HTTP client; ours alone, so that its connections are kept between calls and
            closed at the end.
        is_internal_call: litellm's mark of calls that it need not log; spares a background task
            and its work on every reply.
    """

    acompletion: Callable[..., Awaitable[Any]]
    client: Any
    is_internal_call: ContextVar[bool]


def _load_litellm(proxy: str | None) -> _LiteLlm:
    """Import litellm and make its client; takes seconds the first time."""
    for name, value in _LITELLM_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    is_first = "litellm" not in sys.modules
    litellm: Any = importlib.import_module("litellm")
    context: Any = importlib.import_module("litellm._internal_context")
    _silence(litellm)
    if is_first:
        # These modules live as long as the process: looking through them for garbage would slow
        # every collection, and the exit by half a second.
        gc.freeze()
    return _LiteLlm(
        acompletion=litellm.acompletion,
        client=_http_client(proxy),
        is_internal_call=context.is_internal_call,
    )


def _silence(litellm: Any) -> None:
    """Keep litellm off stdout, the protocol's, and off stderr, where it could show a key."""
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.num_retries = None
    for hooks in ("callbacks", "input_callback", "success_callback", "failure_callback"):
        getattr(litellm, hooks).clear()
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False


def _http_client(proxy: str | None) -> Any:
    from perstack.llm.http_observer import ObservingTransport, proxy_transport  # noqa: PLC0415 - imports httpx

    http: Any = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    if proxy:
        inner = proxy_transport(proxy)
    else:
        ssl_context = http.get_ssl_configuration()
        inner = http.AsyncHTTPHandler.create_async_transport(ssl_context=ssl_context)
    return http.AsyncHTTPHandler(transport=ObservingTransport(inner))


class _GenerationCall:
    def __init__(
        self, litellm: _LiteLlm, connection: ProviderConnection, request: GenerationRequest
    ) -> None:
        from perstack.llm.http_observer import HttpExchange, current_exchange  # noqa: PLC0415 - imports httpx

        self._litellm = litellm
        self._connection = connection
        self._request, self._sent_names = fit_request(request, connection.profile)
        # litellm would look for a key of its own in the process's environment.
        self._exchange = HttpExchange(is_anonymous=connection.is_anonymous)
        self._current_exchange = current_exchange

    async def run(self, deltas: Deltas | None) -> Generation:
        exchange_token = self._current_exchange.set(self._exchange)
        internal_token = self._litellm.is_internal_call.set(True)
        try:
            if deltas is None:
                generation = parse_response(await self._send_request(is_stream=False))
            else:
                generation = await self._stream(deltas)
            return self._sent_names.restore(generation)
        except Exception as error:  # noqa: BLE001 - litellm and its providers raise anything
            failure = self._to_model_error(error, is_stream=deltas is not None)
        finally:
            await self._exchange.close()
            self._litellm.is_internal_call.reset(internal_token)
            self._current_exchange.reset(exchange_token)
        # Outside the handler, so that no context hangs on it: that holds the request and its key.
        raise failure

    async def _send_request(self, *, is_stream: bool) -> Any:
        options = call_options(self._connection, self._request)
        if is_stream:
            options |= {"stream": True, "stream_options": {"include_usage": True}}
        with self._exchange.preparation_scope:
            return await self._litellm.acompletion(**options, client=self._litellm.client)

    async def _stream(self, deltas: Deltas) -> Generation:
        started = anyio.current_time()
        first_chunk_seconds: float | None = None
        response = StreamedResponse(deltas)
        wrapper: Any = await self._send_request(is_stream=True)
        if wrapper.completion_stream is None:
            await wrapper.fetch_stream()
        # The provider's chunks themselves: litellm's wrapper around them rebuilds each one several
        # times, at eight times the cost, and ends replies in which a piece of text repeats.
        async for chunk in cast("AsyncIterable[Any]", wrapper.completion_stream):
            if first_chunk_seconds is None:
                first_chunk_seconds = anyio.current_time() - started
            response.add(chunk)
        return response.result(first_chunk_seconds)

    def _to_model_error(self, error: Exception, *, is_stream: bool) -> ModelError:
        exchange, connection = self._exchange, self._connection
        provider, secrets = connection.profile.name, connection.secrets
        if exchange.has_timed_out:
            return timeout_error(self._request.choice.timeout_seconds, provider=provider)
        if exchange.network_error is not None:
            event = "lost" if exchange.is_connection_lost else "cannot reach"
            return network_error(
                f"{event} {connection.host}: {exchange.network_error}",
                provider=provider,
                secrets=secrets,
            )
        if exchange.error_response is not None:
            return response_error(
                exchange.error_response,
                provider=provider,
                secrets=secrets,
                now=datetime.now(UTC),  # noqa: TID251 - compared with a date of the provider's clock
            )
        if exchange.has_success_status:
            return invalid_response_error(
                error, provider=provider, secrets=secrets, is_stream=is_stream
            )
        return request_build_error(error, provider=provider, secrets=secrets)


def call_options(connection: ProviderConnection, request: GenerationRequest) -> dict[str, Any]:
    """The arguments of litellm's call, without the client."""
    choice, profile = request.choice, connection.profile
    options: dict[str, Any] = {
        "model": connection.litellm_model,
        "messages": chat_messages(request.messages, profile),
        "api_key": connection.api_key,
        "api_base": connection.base_url or None,
        "timeout": choice.timeout_seconds,
        "num_retries": 0,  # Only the runtime retries.
        "max_retries": 0,
        # A model that litellm does not know to think is asked without thinking …
        "drop_params": True,
        # … but never without its tools: that is a gap in litellm's list, not in the model.
        "allowed_openai_params": ["tools"],
    }
    if request.tools:
        options["tools"] = chat_tools(request.tools)
    if connection.headers:
        options["extra_headers"] = dict(connection.headers)
    if profile.requires_max_tokens and choice.facts.max_output:
        options["max_tokens"] = choice.facts.max_output
    if not profile.has_signed_thinking or can_think(request.messages):
        options |= profile.reasoning_options(choice.reasoning_budget, choice.model)
    return options
