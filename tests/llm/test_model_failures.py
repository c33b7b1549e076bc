"""What goes wrong between a model and its provider, and what the runtime is told."""

import socket
from collections.abc import AsyncGenerator

import anyio
import pytest

from perstack.definition.model import Definitions, ProviderName
from perstack.errors import ModelError
from perstack.llm.model_factory import OpenModel, open_model
from perstack.runtime.ports import GenerationRequest
from tests.llm.conversation import Listener, ask, provider_at
from tests.model_server import (
    Cut,
    Gate,
    Hang,
    Held,
    HttpError,
    Malformed,
    ModelServer,
    Reply,
    Reset,
    StreamError,
    model_server,
)

pytestmark = pytest.mark.anyio

KEY = "invented-key-0815"
ENVIRONMENT = {
    "ANTHROPIC_API_KEY": KEY,
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_REGION": "eu-west-1",
    "AWS_SECRET_ACCESS_KEY": KEY,
    "OPENAI_API_KEY": KEY,
}
MODELS: dict[ProviderName, str] = {
    "amazon-bedrock": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "google-vertex": "gemini-2.5-flash",
    "anthropic": "claude-sonnet-4-5",
    "openai": "gpt-5",
    "ollama": "llama3",
}
LONG = Reply("a long text", pieces=8)
every_provider = pytest.mark.parametrize("name", list(MODELS))
streamed_or_not = pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture
async def model(environment: dict[str, str]) -> AsyncGenerator[OpenModel]:
    opened = open_model(definitions=Definitions(), environment={**environment, **ENVIRONMENT})
    await opened.warm_up()
    yield opened
    await opened.aclose()


def request_to(
    server: ModelServer, name: ProviderName, *, timeout_seconds: float = 20.0
) -> GenerationRequest:
    at = provider_at(name, server.base_url + ("/v1" if name == "openai" else ""))
    return ask(at, model=MODELS[name], timeout_seconds=timeout_seconds)


async def failure(
    model: OpenModel, request: GenerationRequest, *, is_stream: bool = False
) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await model.generate(request, Listener() if is_stream else None)
    error = caught.value
    assert KEY not in f"{error!r} {error} {error.__dict__}"
    assert error.__context__ is None or isinstance(error.__context__, TimeoutError)
    return error


@every_provider
@streamed_or_not
async def test_a_rate_limit_says_when_to_come_back(
    model: OpenModel, name: ProviderName, is_stream: bool
) -> None:
    limit = HttpError(429, f"slow down, {KEY}", retry_after=7)
    async with model_server([limit]) as server:
        error = await failure(model, request_to(server, name), is_stream=is_stream)

    assert (error.name, error.status, error.is_retryable) == ("RateLimitError", 429, True)
    assert error.retry_after_seconds == 7.0
    assert str(error) == f"{name} answered 429: slow down, ***"
    assert error.provider == name
    assert len(server.requests) == 1


@every_provider
@streamed_or_not
@pytest.mark.parametrize(
    ("status", "is_retryable"), [(400, False), (401, False), (404, False), (500, True), (529, True)]
)
async def test_an_error_status_arrives_as_it_is(
    model: OpenModel, name: ProviderName, is_stream: bool, status: int, is_retryable: bool
) -> None:
    async with model_server([HttpError(status, "for a reason")]) as server:
        error = await failure(model, request_to(server, name), is_stream=is_stream)

    assert (error.status, error.is_retryable) == (status, is_retryable)
    assert "for a reason" in str(error)
    assert len(server.requests) == 1


@every_provider
@streamed_or_not
async def test_a_body_that_is_no_json_is_worth_another_try(
    model: OpenModel, name: ProviderName, is_stream: bool
) -> None:
    async with model_server([Malformed()]) as server:
        error = await failure(model, request_to(server, name), is_stream=is_stream)

    assert (error.name, error.status, error.is_retryable) == ("InvalidReplyError", None, True)


@every_provider
@streamed_or_not
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
async def test_an_answer_that_breaks_off_is_worth_another_try(
    model: OpenModel, name: ProviderName, is_stream: bool, is_reset: bool
) -> None:
    cut = Cut(LONG, after_chunks=3, is_reset=is_reset)
    async with model_server([cut]) as server:
        error = await failure(model, request_to(server, name), is_stream=is_stream)

    assert (error.name, error.is_retryable) == ("APIConnectionError", True)
    assert str(error).startswith(f"lost 127.0.0.1:{server.port}: ")


@every_provider
async def test_an_error_inside_a_stream_is_worth_another_try(
    model: OpenModel, name: ProviderName
) -> None:
    async with model_server([StreamError(LONG, after_chunks=3)]) as server:
        error = await failure(model, request_to(server, name), is_stream=True)

    assert error.is_retryable
    assert "scripted failure in the stream" in str(error)


async def test_a_request_is_sent_once_even_when_the_connection_is_reset(model: OpenModel) -> None:
    async with model_server([Reset()]) as server:
        error = await failure(model, request_to(server, "openai"))

    assert error.is_retryable
    assert len(server.requests) == 1


@every_provider
@streamed_or_not
async def test_a_closed_port_names_the_address(
    model: OpenModel, name: ProviderName, is_stream: bool
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        at = provider_at(name, f"http://127.0.0.1:{port}")
        error = await failure(model, ask(at, model=MODELS[name]), is_stream=is_stream)

    assert (error.name, error.status, error.is_retryable) == ("APIConnectionError", None, True)
    assert str(error) == f"cannot reach 127.0.0.1:{port}: connection refused"


async def test_a_host_that_does_not_exist_is_named(model: OpenModel) -> None:
    at = provider_at("openai", "https://no-such-host.invalid/v1")

    error = await failure(model, ask(at, model="gpt-5"))

    assert str(error).startswith("cannot reach no-such-host.invalid:443: ")
    assert error.is_retryable


@every_provider
@streamed_or_not
async def test_a_provider_that_does_not_answer_in_time_is_left(
    model: OpenModel, name: ProviderName, is_stream: bool
) -> None:
    async with model_server([Hang()]) as server:
        request = request_to(server, name, timeout_seconds=0.2)
        error = await failure(model, request, is_stream=is_stream)

    assert (error.name, error.is_retryable) == ("TimeoutError", True)
    assert str(error) == f"{name} did not finish its reply within 0.2 seconds"


async def test_a_timeout_is_for_the_whole_reply(model: OpenModel) -> None:
    async with model_server([Held(Gate(), LONG, after_chunks=3)]) as server:
        error = await failure(
            model, request_to(server, "openai", timeout_seconds=0.2), is_stream=True
        )

    assert error.name == "TimeoutError"


@every_provider
@streamed_or_not
async def test_cancellation_closes_the_connection(
    model: OpenModel, name: ProviderName, is_stream: bool
) -> None:
    async with model_server([Held(Gate(), LONG, after_chunks=3)]) as server:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                heard = Listener() if is_stream else None
                group.start_soon(model.generate, request_to(server, name), heard)
                await server.wait_for_requests(1)
                group.cancel_scope.cancel()
            while server.left_early != [1]:
                await anyio.lowlevel.checkpoint()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
async def test_cancellation_at_any_moment_leaves_nothing_behind(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        for rounds in range(60):
            async with anyio.create_task_group() as group:
                group.start_soon(model.generate, request_to(server, "openai"), None)
                for _ in range(rounds):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        reply = await model.generate(request_to(server, "openai"), None)

    assert reply.text == "3"
