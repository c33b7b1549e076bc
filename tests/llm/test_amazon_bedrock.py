"""Amazon Bedrock: addresses, credentials, and what models there are sent."""

from collections.abc import Mapping
from typing import Any

import pytest

from perstack.core.messages import (
    FileInlinePart,
    ImageInlinePart,
    TextPart,
    ThinkingPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from perstack.definition.model import Definitions, Provider
from perstack.errors import ConfigError, ModelError
from perstack.llm.model_factory import open_model
from perstack.llm.providers.connection import resolve_connection
from perstack.model_resolution import resolve_models
from perstack.runtime.ports import Generation, GenerationRequest
from tests.llm.aws import authorization, refused
from tests.llm.conversation import (
    INSTRUCTION,
    Listener,
    ask,
    calls,
    provider_at,
    returns,
    says,
)
from tests.llm.endpoint import listener, streamed_or_not
from tests.model_server import (
    HttpError,
    ModelServer,
    Reply,
    StreamError,
    Usage,
    call,
    model_server,
)

pytestmark = pytest.mark.anyio

CLAUDE = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
KEYS = {
    "AWS_ACCESS_KEY_ID": "invented-id",
    "AWS_SECRET_ACCESS_KEY": "invented-secret",
    "AWS_REGION": "eu-west-1",
}
CACHE_POINT = {"cachePoint": {"type": "default"}}
PICTURE = ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png")
DOCUMENT = FileInlinePart(encoded_data="JVBERi0xLjQ=", mime_type="application/pdf")
SHEET = FileInlinePart(encoded_data="0M8R4A==", mime_type="application/vnd.ms-excel")


def provider(**setting: Any) -> Provider:
    return Provider.model_validate({"providerName": "amazon-bedrock", "setting": setting})


def request_to(server: ModelServer, model: str = CLAUDE, **options: Any) -> GenerationRequest:
    return ask(provider_at("amazon-bedrock", server.base_url), model=model, **options)


async def generate(
    request: GenerationRequest,
    environment: Mapping[str, str] = KEYS,
    heard: Listener | None = None,
) -> Generation:
    model = open_model(definitions=Definitions(), environment=environment)
    try:
        return await model.generate(request, heard)
    finally:
        await model.aclose()


@pytest.mark.parametrize(
    ("setting", "environment", "url"),
    [
        ({"region": "us-east-1"}, {}, "https://bedrock-runtime.us-east-1.amazonaws.com"),
        ({}, {}, "https://bedrock-runtime.eu-west-1.amazonaws.com"),
        (
            {},
            {"AWS_REGION": "", "AWS_DEFAULT_REGION": "cn-north-1\n"},
            "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
        ),
        ({}, {"AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "https://own.example/"}, "https://own.example"),
    ],
)
def test_the_region_decides_the_address(
    setting: dict[str, str], environment: dict[str, str], url: str
) -> None:
    connection = resolve_connection(provider(**setting), "m", {**KEYS, **environment})
    assert connection.base_url == url


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"AWS_ACCESS_KEY_ID": ""}, r"^AWS_ACCESS_KEY_ID is not set\. .*\.env"),
        ({"AWS_SECRET_ACCESS_KEY": " "}, r"^AWS_SECRET_ACCESS_KEY is not set\. .*\.env"),
        ({"AWS_SECRET_ACCESS_KEY": "<your secret>"}, "^AWS_SECRET_ACCESS_KEY has a placeholder"),
        ({"AWS_SESSION_TOKEN": "a\nb"}, "^AWS_SESSION_TOKEN has a character"),
        ({"AWS_BEARER_TOKEN_BEDROCK": "..."}, "^AWS_BEARER_TOKEN_BEDROCK has a placeholder"),
        ({"AWS_REGION": ""}, r"^AWS_REGION is not set\. .*\[provider.setting\]"),
        ({"AWS_REGION": "evil.example/"}, "^'evil.example/' is no region"),
    ],
)
async def test_what_is_missing_is_named_before_anything_is_sent(
    environment: dict[str, str], problem: str
) -> None:
    async with model_server(Reply("3")) as server:
        with pytest.raises(ConfigError, match=problem):
            await generate(request_to(server), {**KEYS, **environment})

    assert server.requests == []


@streamed_or_not
@pytest.mark.parametrize("session_token", [None, "invented-session"])
@pytest.mark.parametrize("model", [CLAUDE, "arn:aws:bedrock:eu-west-1:1:inference-profile/own"])
async def test_a_request_is_signed_as_it_arrives(
    model: str, session_token: str | None, is_stream: bool
) -> None:
    session = {"AWS_SESSION_TOKEN": f"{session_token}\n"} if session_token else {}
    async with model_server(Reply("3")) as server:
        request = request_to(server, model)
        await generate(request, {**KEYS, **session}, listener(is_stream=is_stream))

    [sent] = server.requests
    assert sent.model == model
    assert sent.path.endswith("/converse-stream" if is_stream else "/converse")
    keys = ("invented-id", "invented-secret", session_token)
    signed = authorization(server.base_url + sent.path, sent.raw, sent.headers, keys)
    assert sent.headers["authorization"] == signed
    assert sent.headers.get("x-amz-security-token") == session_token


@pytest.mark.parametrize(
    ("environment", "headers", "sent"),
    [
        ({"AWS_BEARER_TOKEN_BEDROCK": " invented-key\n"}, None, "Bearer invented-key"),
        ({}, {"authorization": "Bearer mine"}, "Bearer mine"),
    ],
)
async def test_a_key_needs_no_signature(
    environment: dict[str, str], headers: dict[str, str] | None, sent: str
) -> None:
    async with model_server(Reply("3")) as server:
        at = provider_at("amazon-bedrock", server.base_url, headers)
        await generate(ask(at, model=CLAUDE), environment)

    assert server.requests[0].headers["authorization"] == sent
    assert "x-amz-date" not in server.requests[0].headers


async def test_what_a_model_of_anthropic_is_sent() -> None:
    thinking = ThinkingPart(thinking="one and two", signature="seal")
    conversation = [INSTRUCTION, says("add"), calls("c1", thinking), returns("c1", "3")]
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, messages=conversation, budget="low"))

    assert refused(server.requests[0].body) == ""
    assert server.requests[0].body == {
        "system": [{"text": "You add."}, CACHE_POINT, {"text": "It is noon."}],
        "messages": [
            {"role": "user", "content": [{"text": "add"}, CACHE_POINT]},
            {
                "role": "assistant",
                "content": [
                    {
                        "reasoningContent": {
                            "reasoningText": {"text": "one and two", "signature": "seal"}
                        }
                    },
                    {"toolUse": {"toolUseId": "c1", "name": "add", "input": {"a": 1}}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"toolResult": {"toolUseId": "c1", "content": [{"text": "3"}]}},
                    CACHE_POINT,
                ],
            },
        ],
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "add",
                        "description": "Adds",
                        "inputSchema": {
                            "json": {"type": "object", "properties": {"a": {"type": "integer"}}}
                        },
                    }
                }
            ]
        },
        "inferenceConfig": {"maxTokens": 64_000},
        "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
    }


async def test_thinking_that_was_sent_encrypted_goes_back() -> None:
    thinking = ThinkingPart(thinking="", signature="redacted:c2VjcmV0")
    conversation = [says("add"), calls("c1", thinking), returns("c1", "")]
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, messages=conversation, budget="low"))

    assert refused(server.requests[0].body) == ""
    _, turn, result = server.requests[0].body["messages"]
    assert turn["content"][0] == {"reasoningContent": {"redactedContent": "c2VjcmV0"}}
    assert result["content"][0]["toolResult"]["content"] == [{"text": "[no output]"}]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (CLAUDE, {"thinking": {"type": "enabled", "budget_tokens": 5000}}),
        (
            "us.anthropic.claude-opus-4-6-v1",
            {
                "thinking": {"type": "adaptive", "display": "summarized"},
                "output_config": {"effort": "medium"},
            },
        ),
        (
            "amazon.nova-2-lite-v1:0",
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}},
        ),
        ("openai.gpt-oss-120b-1:0", {"reasoning_effort": "medium"}),
        ("us.amazon.nova-pro-v1:0", None),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", None),
    ],
)
async def test_each_family_thinks_and_caches_in_its_own_way(
    model: str, fields: dict[str, Any] | None
) -> None:
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, model, budget="medium"))

    [sent] = server.requests
    assert sent.body.get("additionalModelRequestFields") == fields
    caches = "anthropic" in model and fields is not None
    assert (CACHE_POINT in sent.body["system"]) is caches


async def test_a_history_without_thinking_is_continued_without_where_it_is_signed() -> None:
    conversation = [says("add"), calls("c1"), returns("c1", "3")]
    async with model_server(Reply("3")) as server:
        for model in (CLAUDE, "amazon.nova-2-lite-v1:0"):
            await generate(request_to(server, model, messages=conversation, budget="low"))

    asked = ["additionalModelRequestFields" in each.body for each in server.requests]
    assert asked == [False, True]


async def test_the_tools_of_a_history_are_named_where_there_are_no_others() -> None:
    conversation = [says("add"), calls("c1"), returns("c1", "3"), calls("c2"), returns("c2", "4")]
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, messages=conversation, tools=()))
        await generate(request_to(server, tools=()))

    with_calls, without = server.requests
    assert with_calls.tool_names == ("add",)
    assert refused(with_calls.body) == ""
    assert "toolConfig" not in without.body


async def test_images_of_a_result_follow_it_in_the_same_turn_elsewhere() -> None:
    shown = ToolResultPart(
        tool_call_id="c1", tool_name="add", contents=(TextPart(text="seen"), PICTURE)
    )
    conversation = [says("look"), calls("c1"), ToolMessage(contents=(shown,))]
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, "amazon.nova-pro-v1:0", messages=conversation))

    assert refused(server.requests[0].body) == ""
    *_, turn = server.requests[0].body["messages"]
    kinds = [next(iter(block)) for block in turn["content"]]
    assert kinds == ["toolResult", "text", "image"]


async def test_images_and_documents_are_shown_also_inside_results() -> None:
    asked = UserMessage(contents=(TextPart(text="look"), PICTURE, DOCUMENT))
    shown = ToolResultPart(
        tool_call_id="c1", tool_name="add", contents=(TextPart(text="seen"), DOCUMENT)
    )
    conversation = [asked, calls("c1"), ToolMessage(contents=(shown,))]
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, messages=conversation))

    assert refused(server.requests[0].body) == ""
    question, _, result = server.requests[0].body["messages"]
    source = {"source": {"bytes": "JVBERi0xLjQ="}}
    assert question["content"] == [
        {"text": "look"},
        {"image": {"format": "png", "source": {"bytes": "iVBORw0KGgo="}}},
        {"document": {"format": "pdf", "name": "document 1", **source}},
        CACHE_POINT,
    ]
    returned = result["content"][0]["toolResult"]["content"]
    assert returned[1] == {"document": {"format": "pdf", "name": "document 2", **source}}


async def test_no_cache_point_follows_a_document_after_which_it_is_refused() -> None:
    asked = UserMessage(contents=(TextPart(text="look"), SHEET))
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, messages=[INSTRUCTION, asked]))

    [question] = server.requests[0].body["messages"]
    assert [next(iter(block)) for block in question["content"]] == ["text", "document"]


async def test_a_file_of_another_kind_is_described() -> None:
    sound = FileInlinePart(encoded_data="AAAA", mime_type="audio/wav")
    asked = UserMessage(contents=(TextPart(text="listen"), sound))
    async with model_server(Reply("3")) as server:
        await generate(request_to(server, messages=[asked]))

    [question] = server.requests[0].body["messages"]
    assert "content of type audio/wav, 3 bytes" in str(question["content"])


@streamed_or_not
async def test_tokens_of_the_cache_are_part_of_the_input(is_stream: bool) -> None:
    usage = Usage(input_tokens=100, output_tokens=50, cached_tokens=60, cache_write_tokens=30)
    async with model_server(Reply("3", usage=usage)) as server:
        reply = await generate(request_to(server), heard=listener(is_stream=is_stream))

    counted = reply.usage
    assert (counted.input_tokens, counted.output_tokens, counted.total_tokens) == (100, 50, 150)
    assert (counted.cached_input_tokens, counted.cache_creation_input_tokens) == (60, 30)


@pytest.mark.parametrize(
    ("status", "name", "is_retryable"),
    [
        (400, "BadRequestError", False),
        (424, "ApiError", True),
        (429, "RateLimitError", True),
        (500, "InternalServerError", True),
    ],
)
async def test_an_exception_in_a_stream_has_its_status(
    status: int, name: str, is_retryable: bool
) -> None:
    failure = StreamError(Reply("a long text", pieces=8), after_chunks=3, status=status)
    async with model_server([failure]) as server:
        with pytest.raises(ModelError, match="scripted failure in the stream") as caught:
            await generate(request_to(server), heard=Listener())

    error = caught.value
    assert (error.status, error.name, error.is_retryable) == (status, name, is_retryable)


async def test_credentials_that_are_sent_back_are_not_shown() -> None:
    environment = {**KEYS, "AWS_SESSION_TOKEN": "invented-session"}
    text = "AKIA0123456789AB and invented-session are expired"
    async with model_server([HttpError(403, body={"Message": text})]) as server:
        with pytest.raises(ModelError) as caught:
            await generate(request_to(server), environment)

    assert str(caught.value) == "amazon-bedrock answered 403: *** and *** are expired"


async def test_a_prompt_that_is_too_long_is_named_as_that() -> None:
    failure = HttpError(400, "Input is too long for requested model.")
    async with model_server([failure]) as server:
        with pytest.raises(ModelError) as caught:
            await generate(request_to(server))

    assert (caught.value.name, caught.value.is_retryable) == ("ContextWindowExceededError", False)


def test_what_must_be_set_depends_on_what_there_is() -> None:
    def names(environment: dict[str, str], **setting: str) -> list[str]:
        definitions = Definitions.model_validate(
            {"provider": {"providerName": "amazon-bedrock", "setting": setting}}
        )
        return [each.name for each in resolve_models(definitions, environment).variables]

    keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
    assert names({}) == [*keys, "AWS_REGION"]
    assert names({"AWS_DEFAULT_REGION": "eu-west-1"}) == [*keys, "AWS_DEFAULT_REGION"]
    assert names({}, region="eu-west-1") == keys
    key = "AWS_BEARER_TOKEN_BEDROCK"
    assert names({key: "invented"}, region="eu-west-1") == [key]


@streamed_or_not
async def test_tools_are_called(is_stream: bool) -> None:
    async with model_server(call("add", a=1)) as server:
        reply = await generate(
            request_to(server, "us.meta.llama4-maverick-17b-instruct-v1:0"),
            heard=listener(is_stream=is_stream),
        )

    [made] = reply.tool_calls
    assert (made.tool_name, made.args) == ("add", {"a": 1})
