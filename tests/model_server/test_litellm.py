"""The real litellm reads the endpoint: one module, because its import takes seconds."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

import anyio
import pytest

# Read once, when litellm is imported: otherwise it fetches prices from the network.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
import openai

from tests.model_server import (
    CallTool,
    Cut,
    Gate,
    Held,
    HttpError,
    Malformed,
    Reply,
    Request,
    StreamError,
    ToolCall,
    Usage,
    call,
    model_server,
)
from tests.model_server.script import ScriptLike
from tests.model_server.server import ModelServer

pytestmark = [
    pytest.mark.anyio,
    # litellm and what it imports use deprecated calls of pydantic and asyncio; not ours to mend.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # litellm stores plain dicts in typed fields and dumps them for its own logging.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

litellm.suppress_debug_info = True
cast("Any", litellm).telemetry = False


@dataclass(frozen=True)
class Provider:
    model: str
    base_path: str
    dialect: str


PROVIDERS = [
    Provider("openai/gpt-4o", "/v1", "openai_chat"),
    Provider("openai/responses/gpt-5", "/v1", "openai_responses"),
    Provider("anthropic/claude-sonnet-4-5", "", "anthropic"),
    Provider("gemini/gemini-2.5-flash", "", "gemini"),
    Provider("ollama_chat/llama3", "", "ollama"),
]
every_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.dialect)
streamed_or_not = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Does {name}",
            "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
        },
    }
    for name in ("add", "subtract")
]
ASK = [
    {"role": "system", "content": "You add."},
    {"role": "user", "content": "add 19 and 23"},
]


@pytest.fixture(autouse=True)
async def closed_clients() -> AsyncGenerator[None]:
    """Kept connections belong to an event loop, and each test has its own."""
    yield
    await cast("Any", litellm).close_litellm_async_clients()


async def complete(
    server: ModelServer,
    provider: Provider,
    *,
    stream: bool,
    messages: list[dict[str, Any]] | None = None,
) -> Any:
    """One call without retries; a streamed answer comes back put together."""
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = await cast("Any", litellm).acompletion(
        model=provider.model,
        messages=messages or ASK,
        api_base=server.base_url + provider.base_path,
        api_key="sk-invented",
        tools=TOOLS,
        num_retries=0,
        max_retries=0,
        **options,
    )
    if not stream:
        return answer
    chunks = [chunk async for chunk in answer]
    return cast("Any", litellm).stream_chunk_builder(chunks)


@every_provider
@streamed_or_not
async def test_text_finish_and_counts_arrive(provider: Provider, stream: bool) -> None:
    script = Reply("forty-two", usage=Usage(input_tokens=100, output_tokens=50))
    async with model_server(script) as server:
        answer = await complete(server, provider, stream=stream)
    assert answer.choices[0].message.content == "forty-two"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (100, 50)


@every_provider
@streamed_or_not
async def test_parallel_calls_arrive_with_their_arguments(provider: Provider, stream: bool) -> None:
    calls = (ToolCall("add", {"a": 19, "b": 23}), ToolCall("subtract", {"a": 1}))
    async with model_server(Reply("Both.", tool_calls=calls)) as server:
        answer = await complete(server, provider, stream=stream)
    choice = answer.choices[0]
    assert [(c.function.name, c.function.arguments) for c in choice.message.tool_calls] == [
        ("add", '{"a": 19, "b": 23}'),
        ("subtract", '{"a": 1}'),
    ]
    assert len({c.id for c in choice.message.tool_calls}) == 2
    assert choice.message.content == "Both."
    assert choice.finish_reason == "tool_calls"


@every_provider
@streamed_or_not
async def test_thinking_arrives(provider: Provider, stream: bool) -> None:
    async with model_server(Reply("42", thinking="19 + 23 is 42")) as server:
        answer = await complete(server, provider, stream=stream)
    assert answer.choices[0].message.reasoning_content == "19 + 23 is 42"


@streamed_or_not
async def test_anthropic_thinking_arrives_with_its_signature(stream: bool) -> None:
    async with model_server(Reply("42", thinking="hmm", signature="c2VhbA==")) as server:
        answer = await complete(server, PROVIDERS[2], stream=stream)
    (block,) = answer.choices[0].message.thinking_blocks
    assert (block["thinking"], block["signature"]) == ("hmm", "c2VhbA==")


@streamed_or_not
async def test_gemini_seals_its_first_call(stream: bool) -> None:
    reply = Reply(thinking="hmm", signature="c2VhbA==", tool_calls=(ToolCall("add", {"a": 1}),))
    async with model_server(reply) as server:
        answer = await complete(server, PROVIDERS[3], stream=stream)
    (called,) = answer.choices[0].message.tool_calls
    assert called.provider_specific_fields["thought_signature"] == "c2VhbA=="


@pytest.mark.parametrize("provider", PROVIDERS[:4], ids=lambda p: p.dialect)
@streamed_or_not
async def test_cached_tokens_arrive(provider: Provider, stream: bool) -> None:
    async with model_server(Reply("x", usage=Usage(100, 50, cached_tokens=40))) as server:
        answer = await complete(server, provider, stream=stream)
    assert answer.usage.prompt_tokens == 100
    assert answer.usage.prompt_tokens_details.cached_tokens == 40


@pytest.mark.parametrize("provider", [*PROVIDERS[:2], PROVIDERS[3]], ids=lambda p: p.dialect)
@streamed_or_not
async def test_reasoning_tokens_arrive(provider: Provider, stream: bool) -> None:
    async with model_server(Reply("x", usage=Usage(100, 50, reasoning_tokens=20))) as server:
        answer = await complete(server, provider, stream=stream)
    assert answer.usage.completion_tokens == 50
    assert answer.usage.completion_tokens_details.reasoning_tokens == 20


async def test_anthropic_cache_writes_arrive() -> None:
    usage = Usage(100, 50, cached_tokens=40, cache_write_tokens=10)
    async with model_server(Reply("x", usage=usage)) as server:
        answer = await complete(server, PROVIDERS[2], stream=False)
    assert answer.usage.prompt_tokens == 100
    assert answer.usage.cache_creation_input_tokens == 10


@every_provider
@streamed_or_not
async def test_a_full_answer_finishes_for_its_length(provider: Provider, stream: bool) -> None:
    async with model_server(Reply("forty-", finish="length")) as server:
        answer = await complete(server, provider, stream=stream)
    assert answer.choices[0].finish_reason == "length"


@every_provider
async def test_a_request_is_read_in_neutral_terms(provider: Provider) -> None:
    async with model_server(Reply("ok")) as server:
        await complete(server, provider, stream=False)
        (request,) = server.requests
    assert request.dialect == provider.dialect
    assert request.model == provider.model.rsplit("/", 1)[1]
    assert request.system == "You add."
    assert request.last_user_text == "add 19 and 23"
    assert request.tool_names == ("add", "subtract")
    assert not request.is_stream


@every_provider
async def test_a_tool_is_called_and_its_result_reported(provider: Provider) -> None:
    messages: list[dict[str, Any]] = list(ASK)
    async with model_server(CallTool("^add$", {"a": 19, "b": 23})) as server:
        asked = await complete(server, provider, stream=False)
        message = asked.choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        call_id = message.tool_calls[0].id
        messages.append({"role": "tool", "tool_call_id": call_id, "content": "it is 42"})
        answer = await complete(server, provider, stream=False, messages=messages)
        last = server.requests[-1]
    assert "it is 42" in answer.choices[0].message.content
    assert answer.choices[0].message.content.startswith("FAKE-DONE:")
    (result,) = last.tool_results
    (called,) = next(turn for turn in last.messages if turn.role == "assistant").tool_calls
    assert called.name == "add"
    assert called.arguments == {"a": 19, "b": 23}
    assert "it is 42" in result.text


@every_provider
@streamed_or_not
async def test_a_rate_limit_carries_its_retry_after(provider: Provider, stream: bool) -> None:
    async with model_server([HttpError(429, "slow down", retry_after=7)]) as server:
        with pytest.raises(openai.APIError, match="RateLimitError") as caught:
            await complete(server, provider, stream=stream)
        assert len(server.requests) == 1
    assert "slow down" in str(caught.value)
    assert retry_after_of(caught.value) == "7"


def retry_after_of(error: Any) -> str | None:
    """Gemini's stream fails when it is read, and litellm then wraps what the provider said."""
    original = getattr(error, "original_exception", None) or error
    return original.litellm_response_headers.get("retry-after")


@every_provider
@streamed_or_not
async def test_a_cut_answer_is_an_error(provider: Provider, stream: bool) -> None:
    reply = Reply("a text that never ends", pieces=10)
    async with model_server([Cut(reply, after_chunks=4)]) as server:
        with pytest.raises(Exception, match=r"(?i)incomplete|payload|closed|peer|connection"):
            await complete(server, provider, stream=stream)


@every_provider
async def test_a_body_that_is_not_json_is_an_error(provider: Provider) -> None:
    async with model_server([Malformed()]) as server:
        with pytest.raises(openai.OpenAIError, match=r"(?i)expecting property name|broken"):
            await complete(server, provider, stream=False)


@streamed_or_not
async def test_arguments_that_are_not_json_go_out_as_they_are(stream: bool) -> None:
    async with model_server(Reply(tool_calls=(ToolCall("add", '{"a": 19, '),))) as server:
        answer = await complete(server, PROVIDERS[0], stream=stream)
    assert answer.choices[0].message.tool_calls[0].function.arguments == '{"a": 19, '


async def test_an_error_event_ends_an_anthropic_stream() -> None:
    async with model_server([StreamError(Reply("Hello"), after_chunks=4)]) as server:
        with pytest.raises(Exception, match="scripted failure in the stream"):
            await complete(server, PROVIDERS[2], stream=True)


async def test_calls_overlap_while_an_answer_is_held() -> None:
    gate = Gate()
    answers: list[str] = []

    async with model_server([Held(gate, Reply("held")), Reply("quick")]) as server:

        async def ask() -> None:
            answer = await complete(server, PROVIDERS[0], stream=False)
            answers.append(answer.choices[0].message.content)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                await server.wait_for_requests(1)
                await ask()
                assert answers == ["quick"]
                gate.open()
    assert answers == ["quick", "held"]


def add_always(_request: Request) -> Reply:
    return call("add", a=1)


@pytest.mark.parametrize("script", [[call("add", a=1)], add_always], ids=["queue", "function"])
async def test_a_queue_and_a_function_are_scripts(script: ScriptLike) -> None:
    async with model_server(script) as server:
        answer = await complete(server, PROVIDERS[0], stream=False)
    assert answer.choices[0].message.tool_calls[0].function.name == "add"
