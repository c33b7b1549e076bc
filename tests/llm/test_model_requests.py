"""What models are sent, as it arrives at a server that speaks the providers' formats."""

import json

import pytest

from perstack.core.messages import (
    FileInlinePart,
    ImageInlinePart,
    Message,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolMessage,
    ToolResultPart,
    UserMessage,
)
from perstack.definition.model import Definitions, Provider, ProviderName
from perstack.errors import ModelError
from perstack.llm.model_factory import OpenModel, open_model
from perstack.runtime.ports import Generation
from tests.llm.conversation import (
    INSTRUCTION,
    answers,
    ask,
    calls,
    provider_at,
    returns,
    says,
)
from tests.llm.endpoint import (
    ENVIRONMENT,
    MODELS,
    every_provider,
    listener,
    provider,
    streamed_or_not,
)
from tests.model_server import HttpError, Reply, call, model_server

pytestmark = pytest.mark.anyio


@every_provider
async def test_a_tool_turn_goes_back_to_the_provider(model: OpenModel, name: ProviderName) -> None:
    conversation = [
        INSTRUCTION,
        says("add"),
        calls("c1"),
        returns("c1", "3"),
        answers("3"),
        says("and?"),
    ]
    async with model_server(Reply("4")) as server:
        await model.generate(
            ask(provider(server, name), model=MODELS[name], messages=conversation), None
        )

    turns = server.requests[0].messages
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "assistant", "user"]
    assert [(made.name, made.arguments) for made in turns[1].tool_calls] == [("add", {"a": 1})]
    assert turns[2].text == "3"


async def test_what_anthropic_is_sent(model: OpenModel) -> None:
    thinking = ThinkingPart(thinking="one and two", signature="seal")
    conversation = [INSTRUCTION, says("add"), calls("c1", thinking), returns("c1", "3")]
    async with model_server(Reply("3")) as server:
        await model.generate(
            ask(
                provider(server, "anthropic"),
                model="claude-sonnet-4-5",
                messages=conversation,
                budget="low",
            ),
            None,
        )

    mark = {"cache_control": {"type": "ephemeral"}}
    [request] = server.requests
    assert request.body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 64_000,
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "system": [
            {"type": "text", "text": "You add.", **mark},
            {"type": "text", "text": "It is noon."},
        ],
        "tools": [
            {
                "name": "add",
                "type": "custom",
                "description": "Adds",
                "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}},
            }
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "add", **mark}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "one and two", "signature": "seal"},
                    {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "3", **mark}],
            },
        ],
    }
    assert request.headers["x-api-key"] == "invented-a"
    assert request.path == "/v1/messages"


async def test_a_history_without_thinking_is_continued_without(model: OpenModel) -> None:
    conversation = [INSTRUCTION, says("add"), calls("c1"), returns("c1", "3")]
    async with model_server(Reply("3")) as server:
        await model.generate(
            ask(
                provider(server, "anthropic"),
                model="claude-sonnet-4-5",
                messages=conversation,
                budget="low",
            ),
            None,
        )

    assert "thinking" not in server.requests[0].body


async def test_what_openai_is_sent(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        await model.generate(ask(provider(server, "openai"), model="gpt-5", budget="medium"), None)

    [request] = server.requests
    body = request.body
    assert body["reasoning_effort"] == "medium"
    assert body["messages"] == [
        {"role": "system", "content": "You add.\n\nIt is noon."},
        {"role": "user", "content": "add 1 and 2"},
    ]
    assert request.headers["authorization"] == "Bearer invented-o"
    assert request.path == "/v1/chat/completions"


async def test_a_model_that_litellm_does_not_know_keeps_its_tools(model: OpenModel) -> None:
    async with model_server(call("add", a=1)) as server:
        reply = await model.generate(
            ask(provider(server, "openai"), model="our-own-model", budget="low"), None
        )

    assert server.requests[0].tool_names == ("add",)
    assert [item.tool_name for item in reply.tool_calls] == ["add"]


async def test_ollama_is_asked_to_think_and_needs_no_key(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        await model.generate(ask(provider(server, "ollama"), model="llama3", budget="low"), None)

    [request] = server.requests
    assert request.body["think"] is True
    assert "authorization" not in request.headers


@every_provider
async def test_the_users_headers_are_sent(model: OpenModel, name: ProviderName) -> None:
    async with model_server(Reply("3")) as server:
        at = provider_at(name, provider(server, name).setting.base_url or "", {"x-team": "blue"})
        await model.generate(ask(at, model=MODELS[name]), None)

    assert server.requests[0].headers["x-team"] == "blue"


async def test_organization_and_project_are_sent(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        setting = {
            "baseUrl": f"{server.base_url}/v1",
            "organization": "our-org",
            "project": "our-project",
        }
        at = Provider.model_validate({"providerName": "openai", "setting": setting})
        await model.generate(ask(at, model="gpt-5"), None)

    headers = server.requests[0].headers
    assert (headers["openai-organization"], headers["openai-project"]) == ("our-org", "our-project")


@pytest.mark.direct_only
async def test_what_responses_are_asked_with(model: OpenModel) -> None:
    thinking = ThinkingPart(thinking="one and two", signature="openai:seal")
    conversation = [INSTRUCTION, says("add"), calls("c1", thinking), returns("c1", "3")]
    async with model_server(Reply("3")) as server:
        await model.generate(
            ask(
                provider(server, "openai"), model="gpt-5.4", messages=conversation, budget="medium"
            ),
            None,
        )

    [request] = server.requests
    assert request.body == {
        "model": "gpt-5.4",
        "store": False,
        "input": [
            {"role": "system", "content": "You add.\n\nIt is noon."},
            {"role": "user", "content": "add"},
            {"type": "reasoning", "summary": [], "encrypted_content": "seal"},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "3"},
        ],
        "reasoning": {"effort": "medium", "summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "tools": [
            {
                "type": "function",
                "strict": False,
                "name": "add",
                "description": "Adds",
                "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
            }
        ],
    }
    assert request.path == "/v1/responses"


@streamed_or_not
async def test_a_model_that_must_be_asked_in_another_format_is(
    model: OpenModel, is_stream: bool
) -> None:
    async with model_server(call("add", a=1)) as server:
        reply: Generation = await model.generate(
            ask(provider(server, "openai"), model="gpt-5.4", budget="low"),
            listener(is_stream=is_stream),
        )

    assert server.requests[0].dialect == "openai_responses"
    assert [(item.tool_name, item.args) for item in reply.tool_calls] == [("add", {"a": 1})]


@streamed_or_not
async def test_any_other_model_is_reached_through_litellm(is_stream: bool) -> None:
    definitions = Definitions.model_validate({"provider": {"providerName": "litellm"}})
    environment = {"MISTRAL_API_KEY": "invented-m"}
    opened = open_model(definitions=definitions, environment=environment)
    async with model_server(call("add", a=1)) as server:
        at = provider_at("litellm", f"{server.base_url}/v1")
        reply = await opened.generate(ask(at, model="mistral/small"), listener(is_stream=is_stream))
    await opened.aclose()

    [request] = server.requests
    assert (request.path, request.body["model"]) == ("/v1/chat/completions", "small")
    assert request.headers["authorization"] == "Bearer invented-m"
    assert [(item.tool_name, item.args) for item in reply.tool_calls] == [("add", {"a": 1})]


@pytest.mark.direct_only
async def test_a_number_that_json_lacks_is_sent_as_null(model: OpenModel) -> None:
    thought = calls("c1")
    odd = thought.model_copy(
        update={
            "contents": tuple(
                part.model_copy(update={"args": {"a": float("nan")}})
                if isinstance(part, ToolCallPart)
                else part
                for part in thought.contents
            )
        }
    )
    async with model_server(Reply("3")) as server:
        at = provider(server, "anthropic")
        conversation = [says("add"), odd, returns("c1", "3")]
        await model.generate(ask(at, model="claude-sonnet-4-5", messages=conversation), None)

    called = server.requests[0].body["messages"][1]["content"][-1]
    assert called["input"] in ({"a": None}, {})


async def test_equal_requests_are_equal_bytes(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        for _ in range(2):
            await model.generate(
                ask(provider(server, "anthropic"), model="claude-sonnet-4-5"), None
            )

    first, second = server.requests
    assert first.raw == second.raw
    assert json.loads(first.raw) == first.body


async def test_calls_go_through_the_proxy_that_the_environment_names() -> None:
    async with model_server(Reply("3")) as server:
        environment = {**ENVIRONMENT, "PERSTACK_PROXY_URL": server.base_url}
        model = open_model(definitions=Definitions(), environment=environment)
        at = provider_at("openai", "http://127.0.0.1:9/v1")
        await model.generate(ask(at, model="gpt-5"), None)
        await model.aclose()

    assert server.requests[0].path == "http://127.0.0.1:9/v1/chat/completions"


async def test_a_key_in_the_process_goes_to_nobody(
    model: OpenModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "somebody-elses")
    async with model_server(Reply("3")) as server:
        await model.generate(ask(provider(server, "ollama"), model="llama3"), None)

    assert "authorization" not in server.requests[0].headers


async def test_an_authorization_of_the_users_own_is_sent(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        at = provider_at("ollama", server.base_url, {"Authorization": "Bearer mine"})
        await model.generate(ask(at, model="llama3"), None)

    assert server.requests[0].headers["authorization"] == "Bearer mine"


@pytest.mark.direct_only
@pytest.mark.parametrize(
    ("name", "signature"),
    [("gemini-3-pro-preview", "skip_thought_signature_validator"), ("gemini-2.5-flash", None)],
)
async def test_calls_of_another_model_are_marked_as_such_where_google_wants_signatures(
    model: OpenModel, name: str, signature: str | None
) -> None:
    thinking = ThinkingPart(thinking="one and two", signature="openai:seal")
    conversation = [INSTRUCTION, says("add"), calls("c1", thinking), returns("c1", "3")]
    async with model_server(Reply("3")) as server:
        request = ask(provider(server, "google"), model=name, messages=conversation)
        await model.generate(request, None)

    [part] = server.requests[0].body["contents"][1]["parts"]
    assert (part["functionCall"]["name"], part.get("thoughtSignature")) == ("add", signature)


@pytest.mark.direct_only
async def test_what_google_is_sent(model: OpenModel) -> None:
    thinking = ThinkingPart(thinking="one and two", signature="google:seal")
    conversation = [INSTRUCTION, says("add"), calls("c1", thinking), returns("c1", "3")]
    async with model_server(Reply("3")) as server:
        await model.generate(
            ask(
                provider(server, "google"),
                model="gemini-2.5-flash",
                messages=conversation,
                budget="low",
            ),
            None,
        )

    [request] = server.requests
    assert request.body == {
        "systemInstruction": {"parts": [{"text": "You add.\n\nIt is noon."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "add"}]},
            {
                "role": "model",
                "parts": [
                    {"functionCall": {"name": "add", "args": {"a": 1}}, "thoughtSignature": "seal"}
                ],
            },
            {
                "role": "user",
                "parts": [{"functionResponse": {"name": "add", "response": {"output": "3"}}}],
            },
        ],
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "add",
                        "description": "Adds",
                        "parametersJsonSchema": {
                            "type": "object",
                            "properties": {"a": {"type": "integer"}},
                        },
                    }
                ]
            }
        ],
        "generationConfig": {"thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True}},
    }
    assert request.headers["x-goog-api-key"] == "invented-g"
    assert request.path == "/v1beta/models/gemini-2.5-flash:generateContent"


@pytest.mark.direct_only
@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ({}, "/openai/v1/chat/completions?api-version=v1"),
        ({"apiVersion": "preview"}, "/openai/v1/chat/completions?api-version=preview"),
        (
            {"useDeploymentBasedUrls": True, "apiVersion": "2024-10-21"},
            "/openai/deployments/gpt-5/chat/completions?api-version=2024-10-21",
        ),
    ],
)
async def test_azure_has_the_deployment_where_the_settings_say(
    model: OpenModel, setting: dict[str, object], path: str
) -> None:
    async with model_server(Reply("3")) as server:
        settings = {"baseUrl": f"{server.base_url}/openai", **setting}
        at = Provider.model_validate({"providerName": "azure-openai", "setting": settings})
        await model.generate(ask(at, model="gpt-5"), None)

    [request] = server.requests
    assert (request.path, request.headers["api-key"]) == (path, "invented-az")
    assert "authorization" not in request.headers


@pytest.mark.direct_only
async def test_reasoning_goes_back_to_a_chat_server_with_the_calls(model: OpenModel) -> None:
    conversation = [
        says("add"),
        calls("c1", ThinkingPart(thinking="one and two")),
        returns("c1", "3"),
    ]
    async with model_server(Reply("3")) as server:
        at = provider(server, "deepseek")
        await model.generate(ask(at, model="deepseek-reasoner", messages=conversation), None)

    turn = server.requests[0].body["messages"][1]
    assert turn["reasoning_content"] == "one and two"


PICTURE = ImageInlinePart(encoded_data="iVBORw0KGgo=", mime_type="image/png")
DOCUMENT = FileInlinePart(encoded_data="JVBERi0xLjQ=", mime_type="application/pdf")


def with_media() -> list[Message]:
    asked = UserMessage(contents=(TextPart(text="look"), PICTURE, DOCUMENT))
    shown = ToolResultPart(
        tool_call_id="c1", tool_name="add", contents=(TextPart(text="seen"), PICTURE, DOCUMENT)
    )
    return [INSTRUCTION, asked, calls("c1"), ToolMessage(contents=(shown,))]


async def test_anthropic_gets_images_and_documents_also_inside_results(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        await model.generate(
            ask(provider(server, "anthropic"), model="claude-sonnet-4-5", messages=with_media()),
            None,
        )

    asked, _, result = server.requests[0].body["messages"]
    assert [block["type"] for block in asked["content"]] == ["text", "image", "document"]
    assert asked["content"][1]["source"] == {
        "type": "base64",
        "media_type": "image/png",
        "data": "iVBORw0KGgo=",
    }
    [returned] = result["content"]
    assert [block["type"] for block in returned["content"]] == ["text", "image", "document"]


async def test_openai_gets_images_and_documents_of_a_result_after_it(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        await model.generate(
            ask(provider(server, "openai"), model="gpt-5", messages=with_media()), None
        )

    _, asked, _, result, shown = server.requests[0].body["messages"]
    kinds = ["text", "image_url", "file"]
    assert [block["type"] for block in asked["content"]] == kinds
    assert isinstance(result["content"], str)
    assert [block["type"] for block in shown["content"]] == kinds


@pytest.mark.direct_only
@pytest.mark.parametrize(
    ("reason", "is_remembered"),
    [
        ("this model does not support image input", True),
        ("Model llama is not a vision model", True),
        ("Unsupported image format", False),
        ("bad request", False),
    ],
)
async def test_a_refused_image_is_replaced_by_a_note(
    model: OpenModel, reason: str, is_remembered: bool
) -> None:
    replies = [HttpError(400, reason), Reply("3"), Reply("4")]
    async with model_server(replies) as server:
        request = ask(provider(server, "openai"), model="llama", messages=with_media())
        assert (await model.generate(request, None)).text == "3"
        assert (await model.generate(request, None)).text == "4"

    shown = ["iVBORw0KGgo=" in str(each.body) for each in server.requests]
    assert shown == [True, False, not is_remembered]
    assert "content of type image/png, which this model cannot be shown" in str(
        server.requests[1].body
    )


@pytest.mark.direct_only
async def test_images_are_left_out_of_a_request_that_is_too_large(model: OpenModel) -> None:
    async with model_server([HttpError(413, "Request too large"), Reply("3")]) as server:
        request = ask(provider(server, "openai"), model="gpt-5", messages=with_media())
        assert (await model.generate(request, None)).text == "3"

    assert ["iVBORw0KGgo=" in str(each.body) for each in server.requests] == [True, False]


@pytest.mark.direct_only
async def test_what_is_refused_without_images_too_is_refused_for_that_reason(
    model: OpenModel,
) -> None:
    async with model_server([HttpError(400, "first"), HttpError(400, "second")]) as server:
        request = ask(provider(server, "openai"), model="llama", messages=with_media())
        with pytest.raises(ModelError, match="first"):
            await model.generate(request, None)


async def test_ollama_gets_images_beside_the_text(model: OpenModel) -> None:
    async with model_server(Reply("3")) as server:
        await model.generate(
            ask(provider(server, "ollama"), model="llama3", messages=with_media()), None
        )

    asked = server.requests[0].body["messages"][1]
    assert asked["images"] == ["iVBORw0KGgo="]
    assert "a file of type application/pdf" in asked["content"]
