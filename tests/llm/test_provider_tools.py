"""Tools that a provider calls itself: how it is told of them."""

from collections.abc import Mapping
from typing import Any

import pytest
from inline_snapshot import snapshot

from perstack.core.messages import ExpertMessage, ProviderPart, TextPart
from perstack.definition.model import Definitions, Expert, Provider, ProviderName
from perstack.errors import ConfigError, ModelError
from perstack.llm.model_factory import OpenModel, open_model
from tests.llm.conversation import INSTRUCTION, ask, ask_for, provider_at, says
from tests.llm.endpoint import ENVIRONMENT, MODELS, provider
from tests.llm.provider_replies import FOUND, SEARCH
from tests.model_server import HttpError, Reply, Request, model_server

pytestmark = [pytest.mark.anyio, pytest.mark.direct_only]

FILE_SEARCH = {"fileSearch": {"vectorStoreIds": ["store-1"], "maxNumResults": 4}}
WEB_SEARCH = {"webSearch": {"maxUses": 3, "allowedDomains": ["example.com"]}}


def expert(**fields: Any) -> Expert:
    return Expert.model_validate({"key": "finder", "instruction": "Find it.", **fields})


async def asked(
    model: OpenModel, name: ProviderName, finder: Expert, model_name: str | None = None
) -> Request:
    """The request for an expert, as it arrives at its provider."""
    async with model_server(Reply("found")) as server:
        at = provider(server, name)
        await model.generate(ask_for(finder, at, model=model_name or MODELS[name]), None)
    return server.requests[0]


def tools_beside_functions(body: Mapping[str, Any]) -> list[Any]:
    return [
        tool
        for tool in body["tools"]
        if tool.get("type") not in {"function", "custom"} and "functionDeclarations" not in tool
    ]


async def test_what_anthropic_is_told(model: OpenModel) -> None:
    finder = expert(
        providerTools=["webSearch", "webFetch", "codeExecution"],
        providerToolOptions={**WEB_SEARCH, "webFetch": {"maxUses": 2}},
    )

    request = await asked(model, "anthropic", finder)

    assert tools_beside_functions(request.body) == snapshot(
        [
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "max_uses": 3,
                "allowed_domains": ["example.com"],
            },
            {
                "type": "web_fetch_20250910",
                "name": "web_fetch",
                "max_uses": 2,
                "citations": {"enabled": True},
            },
            {"type": "code_execution_20250825", "name": "code_execution"},
        ]
    )
    assert request.headers["anthropic-beta"] == "files-api-2025-04-14"
    assert "container" not in request.body


@pytest.mark.parametrize(
    ("claude", "tools", "types"),
    [
        ("claude-opus-4-6", ["webSearch"], ["web_search_20260209"]),
        ("claude-sonnet-5", ["webFetch"], ["web_fetch_20260209"]),
        ("claude-haiku-4-5", ["webSearch"], ["web_search_20250305"]),
        (
            "claude-opus-4-6",
            ["webSearch", "codeExecution"],
            ["web_search_20250305", "code_execution_20250825"],
        ),
    ],
)
async def test_claude_filters_what_it_finds_where_it_can(
    model: OpenModel, claude: str, tools: list[str], types: list[str]
) -> None:
    request = await asked(model, "anthropic", expert(providerTools=tools), claude)

    assert [tool["type"] for tool in tools_beside_functions(request.body)] == types
    assert ("anthropic-beta" in request.headers) == ("codeExecution" in tools)


async def test_claude_works_with_skills_in_a_container(model: OpenModel) -> None:
    skills = [
        {"type": "builtin", "skillId": "pdf"},
        {"type": "custom", "name": "skill_1"},
        {"type": "custom", "name": "skill_2", "definition": '{"version": "7"}'},
    ]

    request = await asked(model, "anthropic", expert(providerSkills=skills))

    assert request.body["container"] == snapshot(
        {
            "skills": [
                {"type": "anthropic", "skill_id": "pdf", "version": "latest"},
                {"type": "custom", "skill_id": "skill_1", "version": "latest"},
                {"type": "custom", "skill_id": "skill_2", "version": "7"},
            ]
        }
    )
    assert tools_beside_functions(request.body) == snapshot(
        [{"type": "code_execution_20250825", "name": "code_execution"}]
    )
    assert request.headers["anthropic-beta"] == snapshot(
        "code-execution-2025-08-25,skills-2025-10-02,files-api-2025-04-14"
    )


async def test_features_that_the_user_asks_for_are_kept(model: OpenModel) -> None:
    finder = expert(providerSkills=[{"type": "builtin", "skillId": "xlsx"}])
    async with model_server(Reply("found")) as server:
        at = provider_at("anthropic", server.base_url, {"Anthropic-Beta": "our-own"})
        await model.generate(ask_for(finder, at, model="claude-sonnet-4-5"), None)

    features = server.requests[0].headers["anthropic-beta"]
    assert features == "our-own,code-execution-2025-08-25,skills-2025-10-02,files-api-2025-04-14"


async def test_what_openai_is_told(model: OpenModel) -> None:
    finder = expert(
        providerTools=["webSearch", "fileSearch", "codeInterpreter", "imageGeneration"],
        providerToolOptions={**WEB_SEARCH, **FILE_SEARCH},
    )

    request = await asked(model, "openai", finder)

    assert request.path == "/v1/responses"
    assert tools_beside_functions(request.body) == snapshot(
        [
            {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}},
            {"type": "file_search", "vector_store_ids": ["store-1"], "max_num_results": 4},
            {"type": "code_interpreter", "container": {"type": "auto"}},
            {"type": "image_generation"},
        ]
    )
    assert (request.body["include"], request.body["max_tool_calls"]) == snapshot(
        (
            [
                "reasoning.encrypted_content",
                "web_search_call.action.sources",
                "file_search_call.results",
                "code_interpreter_call.outputs",
            ],
            3,
        )
    )


async def test_what_azure_is_told(model: OpenModel) -> None:
    finder = expert(
        providerTools=["webSearchPreview", "fileSearch"], providerToolOptions=FILE_SEARCH
    )

    request = await asked(model, "azure-openai", finder)

    assert request.path == "/openai/v1/responses?api-version=v1"
    assert tools_beside_functions(request.body) == snapshot(
        [
            {"type": "web_search_preview"},
            {"type": "file_search", "vector_store_ids": ["store-1"], "max_num_results": 4},
        ]
    )
    assert request.body["include"] == ["reasoning.encrypted_content", "file_search_call.results"]


async def test_what_google_is_told(model: OpenModel) -> None:
    finder = expert(
        providerTools=["googleSearch", "codeExecution", "urlContext", "fileSearch", "googleMaps"],
        providerToolOptions=FILE_SEARCH,
    )

    request = await asked(model, "google", finder)

    assert tools_beside_functions(request.body) == snapshot(
        [
            {"googleSearch": {}},
            {"codeExecution": {}},
            {"urlContext": {}},
            {"fileSearch": {"fileSearchStoreNames": ["store-1"], "topK": 4}},
            {"googleMaps": {}},
        ]
    )
    assert request.body["toolConfig"] == {"includeServerSideToolInvocations": True}


async def test_an_expert_without_such_tools_is_asked_as_before(model: OpenModel) -> None:
    request = await asked(model, "openai", expert())

    assert request.path == "/v1/chat/completions"


def test_a_provider_that_a_caller_chose_must_have_the_tools_of_the_expert() -> None:
    definitions = Definitions(experts={"finder": expert(providerTools=["webSearch"])})
    opened = open_model(
        definitions=definitions, environment=ENVIRONMENT, provider="google", model="gemini-2.5-pro"
    )

    with pytest.raises(ConfigError, match="google has no webSearch, which expert 'finder' asks"):
        opened.choose(definitions.experts["finder"])


def test_the_provider_of_the_file_is_not_asked_for_what_it_lacks() -> None:
    definitions = Definitions(
        provider=Provider(provider_name="openai"),
        experts={"finder": expert(providerSkills=[{"type": "builtin", "skillId": "pdf"}])},
    )
    opened = open_model(definitions=definitions, environment=ENVIRONMENT)

    with pytest.raises(ConfigError, match="openai has no providerSkills"):
        opened.choose(definitions.experts["finder"])


SEARCHED = ExpertMessage(
    contents=(
        ProviderPart(
            provider="anthropic", tools=("web_search",), content={"content": [SEARCH, FOUND]}
        ),
        TextPart(text="The sun is hot."),
    )
)
TALK = (INSTRUCTION, says("How hot?"), SEARCHED, says("Sure?"))


async def test_a_reply_that_is_refused_afterwards_is_told_as_text(model: OpenModel) -> None:
    replies = [HttpError(400, "the container has expired"), Reply("Sure.")]
    async with model_server(replies) as server:
        at = provider(server, "anthropic")
        reply = await model.generate(ask(at, model="claude-sonnet-4-5", messages=TALK), None)

    first, second = (request.body["messages"][1]["content"] for request in server.requests)
    assert reply.text == "Sure."
    assert first == [SEARCH, FOUND]
    assert second == [{"type": "text", "text": "The sun is hot."}]


async def test_what_is_refused_as_text_too_is_refused_for_the_first_reason(
    model: OpenModel,
) -> None:
    async with model_server([HttpError(400, "first"), HttpError(400, "second")]) as server:
        at = provider(server, "anthropic")
        with pytest.raises(ModelError, match="first"):
            await model.generate(ask(at, model="claude-sonnet-4-5", messages=TALK), None)


@pytest.mark.parametrize("name", MODELS)
async def test_a_reply_of_another_provider_is_told_as_text(
    model: OpenModel, name: ProviderName
) -> None:
    part, text = SEARCHED.contents
    foreign = ExpertMessage(contents=(part.model_copy(update={"provider": "another"}), text))
    talk = (INSTRUCTION, says("How hot?"), foreign, says("Sure?"))
    async with model_server(Reply("Sure.")) as server:
        at = provider(server, name)
        await model.generate(ask(at, model=MODELS[name], messages=talk), None)

    assert "web_search" not in str(server.requests[0].body)
    assert server.requests[0].messages[1].text == "The sun is hot."
