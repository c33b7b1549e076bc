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

from perstack.definition.choice import ModelChoice
from perstack.definition.model import Expert
from perstack.errors import ModelError
from perstack.llm.catalog import model_facts
from perstack.llm.convert import can_think, chat_messages, chat_tools
from perstack.llm.failure import (
    network_failure,
    reply_failure,
    request_failure,
    status_failure,
    timeout_failure,
)
from perstack.llm.providers import Connection, connect
from perstack.llm.reasoning import reasoning_options
from perstack.llm.reply import StreamedReply, whole_reply
from perstack.llm.selection import Selection, context_window
from perstack.llm.tool_names import original_names
from perstack.runtime.ports import Deltas, Generation, GenerationRequest

PROXY_VARIABLE = "PERSTACK_PROXY_URL"

_PROCESS_SWITCHES = {
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
        selection: Which model generates for which expert.
        environment: Where keys and addresses come from: the environment with the values of the
            `.env` files. The process's own is not read.
    """

    def __init__(self, selection: Selection, environment: Mapping[str, str]) -> None:
        self._selection = selection
        self._environment = environment
        self._loading = anyio.Lock()
        self._gateway: _Gateway | None = None

    def choose(self, expert: Expert) -> ModelChoice:
        return self._selection.choose(expert)

    def context_window(self, choice: ModelChoice) -> int | None:
        return context_window(choice)

    async def warm_up(self) -> None:
        """Import what the first generation needs, so that it does not wait for it."""
        await self._load()

    async def aclose(self) -> None:
        """Close the connections that are kept open."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            with anyio.CancelScope(shield=True):
                await gateway.client.close()

    async def generate(self, request: GenerationRequest, deltas: Deltas | None) -> Generation:
        choice = request.choice
        connection = connect(choice.provider, choice.model, self._environment)
        gateway = await self._load()
        call = _Call(gateway, connection, request)
        try:
            with anyio.fail_after(choice.timeout_seconds):
                generation = await call.make(deltas)
        except TimeoutError as error:
            raise timeout_failure(choice.timeout_seconds, provider=connection.provider) from error
        # litellm puts its own name of the provider before some models.
        prefix = connection.model.removesuffix(choice.model)
        named = (generation.response_model or choice.model).removeprefix(prefix)
        return replace(generation, response_model=named)

    async def _load(self) -> "_Gateway":
        async with self._loading:
            if self._gateway is None:
                self._gateway = await anyio.to_thread.run_sync(
                    _open_gateway, self._environment.get(PROXY_VARIABLE), abandon_on_cancel=True
                )
            return self._gateway


@dataclass(frozen=True, slots=True)
class _Gateway:
    """What is used of litellm.

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


def _open_gateway(proxy: str | None) -> _Gateway:
    """Import litellm and make its client; takes seconds the first time."""
    for name, value in _PROCESS_SWITCHES.items():
        os.environ.setdefault(name, value)
    is_first = "litellm" not in sys.modules
    litellm: Any = importlib.import_module("litellm")
    context: Any = importlib.import_module("litellm._internal_context")
    _silence(litellm)
    if is_first:
        # These modules live as long as the process: looking through them for garbage would slow
        # every collection, and the exit by half a second.
        gc.freeze()
    return _Gateway(
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
    from perstack.llm.transport import ObservedTransport, proxied  # noqa: PLC0415 - imports httpx

    http: Any = importlib.import_module("litellm.llms.custom_httpx.http_handler")
    if proxy:
        inner = proxied(proxy)
    else:
        ssl_context = http.get_ssl_configuration()
        inner = http.AsyncHTTPHandler.create_async_transport(ssl_context=ssl_context)
    return http.AsyncHTTPHandler(transport=ObservedTransport(inner))


class _Call:
    """One generation."""

    def __init__(
        self, gateway: _Gateway, connection: Connection, request: GenerationRequest
    ) -> None:
        from perstack.llm.transport import Exchange, current_exchange  # noqa: PLC0415 - imports httpx

        self._gateway = gateway
        self._connection = connection
        self._request = request
        self._names = original_names(request.tools)
        # litellm would look for a key of its own in the process's environment.
        self._exchange = Exchange(is_anonymous=connection.is_anonymous)
        self._current = current_exchange

    async def make(self, deltas: Deltas | None) -> Generation:
        exchange_token = self._current.set(self._exchange)
        internal_token = self._gateway.is_internal_call.set(True)
        try:
            if deltas is None:
                return whole_reply(await self._ask(is_stream=False), self._names)
            return await self._stream(deltas)
        except Exception as error:  # noqa: BLE001 - litellm and its providers raise anything
            failure = self._failure(error, is_stream=deltas is not None)
        finally:
            await self._exchange.close()
            self._gateway.is_internal_call.reset(internal_token)
            self._current.reset(exchange_token)
        # Outside the handler, so that no context hangs on it: that holds the request and its key.
        raise failure

    async def _ask(self, *, is_stream: bool) -> Any:
        options = call_options(self._connection, self._request)
        if is_stream:
            options |= {"stream": True, "stream_options": {"include_usage": True}}
        with self._exchange.preparing:
            return await self._gateway.acompletion(**options, client=self._gateway.client)

    async def _stream(self, deltas: Deltas) -> Generation:
        started = anyio.current_time()
        first_chunk_seconds: float | None = None
        reply = StreamedReply(deltas, self._names)
        wrapper: Any = await self._ask(is_stream=True)
        if wrapper.completion_stream is None:
            await wrapper.fetch_stream()
        # The provider's chunks themselves: litellm's wrapper around them rebuilds each one several
        # times, at eight times the cost, and ends replies in which a piece of text repeats.
        async for chunk in cast("AsyncIterable[Any]", wrapper.completion_stream):
            if first_chunk_seconds is None:
                first_chunk_seconds = anyio.current_time() - started
            reply.add(chunk)
        return reply.result(first_chunk_seconds)

    def _failure(self, error: Exception, *, is_stream: bool) -> ModelError:
        exchange, connection = self._exchange, self._connection
        provider, secrets = connection.provider, connection.secrets
        if exchange.has_timed_out:
            return timeout_failure(self._request.choice.timeout_seconds, provider=provider)
        if exchange.network_error is not None:
            event = "lost" if exchange.is_lost else "cannot reach"
            return network_failure(
                f"{event} {connection.host}: {exchange.network_error}",
                provider=provider,
                secrets=secrets,
            )
        if exchange.failure is not None:
            return status_failure(
                exchange.failure,
                provider=provider,
                secrets=secrets,
                now=datetime.now(UTC),  # noqa: TID251 - compared with a date of the provider's clock
            )
        if exchange.was_answered:
            return reply_failure(error, provider=provider, secrets=secrets, is_stream=is_stream)
        return request_failure(error, provider=provider, secrets=secrets)


def call_options(connection: Connection, request: GenerationRequest) -> dict[str, Any]:
    """The arguments of litellm's call, without the client."""
    choice, provider = request.choice, connection.provider
    options: dict[str, Any] = {
        "model": connection.model,
        "messages": chat_messages(request.messages, provider),
        "api_key": connection.api_key,
        "api_base": connection.base_url,
        "timeout": choice.timeout_seconds,
        "num_retries": 0,  # The runtime retries, and nobody else.
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
    if provider == "anthropic" and (facts := model_facts(provider, choice.model)):
        options["max_tokens"] = facts.max_output
    if provider != "anthropic" or can_think(request.messages):
        options |= reasoning_options(choice.reasoning_budget, provider, choice.model)
    return options
