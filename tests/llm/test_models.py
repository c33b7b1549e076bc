"""Models, against a server that speaks the formats of the providers."""

import anyio
import pytest

from perstack.core.messages import ThinkingPart
from perstack.core.tools import ToolDefinition
from perstack.definition.model import Definitions, Provider, ProviderName
from perstack.errors import ConfigError
from perstack.llm.model_factory import OpenModel, open_model
from tests.llm.conversation import (
    ADD,
    Listener,
    ask,
    says,
)
from tests.llm.endpoint import MODELS, every_provider, listener, provider, streamed_or_not
from tests.model_server import ModelServer, Reply, ToolCall, Usage, call, model_server

pytestmark = pytest.mark.anyio


@every_provider
@streamed_or_not
async def test_text_and_counts_arrive(
    model: OpenModel, name: ProviderName, is_stream: bool
) -> None:
    usage = Usage(input_tokens=100, output_tokens=50)
    async with model_server(Reply("It is 3.", usage=usage)) as server:
        reply = await model.generate(
            ask(provider(server, name), model=MODELS[name]), listener(is_stream=is_stream)
        )

    assert (reply.text, reply.finish_reason, reply.tool_calls) == ("It is 3.", "stop", ())
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (100, 50)
    assert reply.usage.total_tokens == 150
    # Bedrock does not say which model has answered.
    assert reply.response_model == (None if name == "amazon-bedrock" else MODELS[name])
    assert (reply.first_chunk_seconds is not None) is is_stream
    [request] = server.requests
    assert request.is_stream is is_stream
    assert (request.model, request.system) == (MODELS[name], request.system)
    assert "You add." in request.system
    assert request.last_user_text == "add 1 and 2"
    assert request.tool_names == ("add",)


@every_provider
@streamed_or_not
async def test_parallel_tool_calls_arrive_in_order(
    model: OpenModel, name: ProviderName, is_stream: bool
) -> None:
    wanted = (ToolCall("add", {"a": 1}), ToolCall("add", {"a": 2}))
    async with model_server(Reply("Both.", tool_calls=wanted)) as server:
        reply = await model.generate(
            ask(provider(server, name), model=MODELS[name]), listener(is_stream=is_stream)
        )

    assert [(item.tool_name, item.args) for item in reply.tool_calls] == [
        ("add", {"a": 1}),
        ("add", {"a": 2}),
    ]
    assert len({item.tool_call_id for item in reply.tool_calls} - {""}) == 2
    assert (reply.text, reply.finish_reason) == ("Both.", "toolCalls")


@every_provider
@streamed_or_not
async def test_thinking_arrives(model: OpenModel, name: ProviderName, is_stream: bool) -> None:
    heard = Listener()
    async with model_server(Reply("3", thinking="one and two", signature="seal")) as server:
        reply = await model.generate(
            ask(provider(server, name), model=MODELS[name], budget="low"),
            heard if is_stream else None,
        )

    signature = "seal" if name in {"anthropic", "amazon-bedrock"} else None
    assert reply.thinking == (ThinkingPart(thinking="one and two", signature=signature),)
    assert "".join(heard.thoughts) == ("one and two" if is_stream else "")


@streamed_or_not
async def test_cached_and_reasoning_tokens_are_counted(model: OpenModel, is_stream: bool) -> None:
    usage = Usage(input_tokens=100, output_tokens=50, cached_tokens=60, reasoning_tokens=20)
    async with model_server(Reply("3", usage=usage)) as server:
        reply = await model.generate(
            ask(provider(server, "openai"), model="gpt-5"), listener(is_stream=is_stream)
        )

    assert (reply.usage.cached_input_tokens, reply.usage.reasoning_tokens) == (60, 20)


@streamed_or_not
async def test_anthropics_cached_tokens_are_part_of_the_input(
    model: OpenModel, is_stream: bool
) -> None:
    usage = Usage(input_tokens=100, cached_tokens=60, cache_write_tokens=30)
    async with model_server(Reply("3", usage=usage)) as server:
        reply = await model.generate(
            ask(provider(server, "anthropic"), model="claude-sonnet-4-5"),
            listener(is_stream=is_stream),
        )

    assert (reply.usage.input_tokens, reply.usage.cached_input_tokens) == (100, 60)


@streamed_or_not
@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "length"), ("content_filter", "contentFilter")]
)
async def test_a_reply_that_was_cut_off_says_why(
    model: OpenModel, is_stream: bool, finish: str, reason: str
) -> None:
    async with model_server(Reply("3", finish=finish)) as server:  # pyright: ignore[reportArgumentType] - a parameter is a plain string
        reply = await model.generate(
            ask(provider(server, "openai"), model="gpt-5"), listener(is_stream=is_stream)
        )

    assert reply.finish_reason == reason


@streamed_or_not
async def test_arguments_that_are_no_json_are_told_with_the_call(
    model: OpenModel, is_stream: bool
) -> None:
    async with model_server(Reply(tool_calls=(ToolCall("add", '{"a": '),))) as server:
        reply = await model.generate(
            ask(provider(server, "openai"), model="gpt-5"), listener(is_stream=is_stream)
        )

    [made] = reply.tool_calls
    assert made.args == {}
    assert made.args_error is not None
    assert "not valid JSON" in made.args_error


@every_provider
async def test_deltas_make_up_the_text(model: OpenModel, name: ProviderName) -> None:
    heard = Listener()
    text = "a text in many pieces"
    async with model_server(Reply(text, pieces=7)) as server:
        reply = await model.generate(ask(provider(server, name), model=MODELS[name]), heard)

    assert "".join(heard.texts) == reply.text == text
    assert len(heard.texts) == 7


async def test_a_text_that_repeats_itself_arrives_whole(model: OpenModel) -> None:
    async with model_server(Reply("same " * 300, pieces=300)) as server:
        reply = await model.generate(ask(provider(server, "openai"), model="gpt-5"), Listener())

    assert reply.text == "same " * 300


@streamed_or_not
async def test_a_tool_is_called_by_its_own_name_where_the_provider_knows_another(
    model: OpenModel, is_stream: bool
) -> None:
    tool = ToolDefinition("files", "files.read/all", "Reads", {"type": "object", "properties": {}})
    async with model_server(lambda request: call(request.tool_names[0])) as server:
        reply = await model.generate(
            ask(provider(server, "openai"), model="gpt-5", tools=(tool, ADD)),
            listener(is_stream=is_stream),
        )

    assert [item.tool_name for item in reply.tool_calls] == ["files.read/all"]
    assert server.requests[0].tool_names[0] != "files.read/all"


async def test_a_missing_key_is_a_matter_of_configuration() -> None:
    model = open_model(definitions=Definitions(), environment={})
    at = Provider(provider_name="anthropic")

    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY is not set"):
        await model.generate(ask(at, model="claude-sonnet-4-5"), None)


async def test_a_closed_model_can_be_used_again(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        request = ask(provider(server, "openai"), model="gpt-5")
        await model.generate(request, None)
        await model.aclose()
        reply = await model.generate(request, None)

    assert reply.text == "3"


async def test_many_generations_at_once_share_one_model(model: OpenModel) -> None:
    replies: dict[str, str] = {}

    async def one(server: ModelServer, text: str) -> None:
        request = ask(provider(server, "openai"), model="gpt-5", messages=[says(text)])
        replies[text] = (await model.generate(request, None)).text

    async with (
        model_server(lambda request: Reply(request.last_user_text)) as server,
        anyio.create_task_group() as group,
    ):
        for number in range(50):
            group.start_soon(one, server, f"text {number}")

    assert replies == {f"text {number}": f"text {number}" for number in range(50)}
