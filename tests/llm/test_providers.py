"""How providers are reached."""

from typing import Any

import pytest

from perstack.definition.model import Provider
from perstack.errors import ConfigError
from perstack.llm.providers.anthropic import ANTHROPIC
from perstack.llm.providers.connection import host_of, resolve_connection
from perstack.llm.providers.openai import OPENAI
from tests.llm.endpoint import ENVIRONMENT

KEYS = {**ENVIRONMENT, "AZURE_RESOURCE_NAME": "our-own"}


def provider(name: str, **setting: Any) -> Provider:
    return Provider.model_validate({"providerName": name, "setting": setting})


@pytest.mark.parametrize(
    ("name", "model", "url", "key"),
    [
        ("anthropic", "anthropic/m", "https://api.anthropic.com", "invented-a"),
        ("openai", "openai/m", "https://api.openai.com/v1", "invented-o"),
        ("ollama", "ollama_chat/m", "http://localhost:11434", None),
        ("deepseek", "deepseek/m", "https://api.deepseek.com", "invented-d"),
        ("fireworks", "fireworks_ai/m", "https://api.fireworks.ai/inference/v1", "invented-f"),
        ("azure-openai", "azure/m", "https://our-own.openai.azure.com/openai", "invented-az"),
        (
            "google",
            "gemini/m",
            "https://generativelanguage.googleapis.com/v1beta",
            "invented-g",
        ),
    ],
)
def test_a_provider_has_its_address_and_its_key(
    name: str, model: str, url: str, key: str | None
) -> None:
    connection = resolve_connection(provider(name), "m", KEYS)

    assert (connection.litellm_model, connection.base_url, connection.api_key) == (model, url, key)


def test_the_environment_replaces_the_address_and_the_file_replaces_both() -> None:
    environment = {**KEYS, "OPENAI_BASE_URL": "https://env.example/v1"}

    by_environment = resolve_connection(provider("openai"), "m", environment)
    by_file = resolve_connection(
        provider("openai", baseUrl="https://file.example/v1"), "m", environment
    )

    assert by_environment.base_url == "https://env.example/v1"
    assert by_file.base_url == "https://file.example/v1"


@pytest.mark.parametrize("url", ["https://a.example", "https://a.example/v1", "https://a.example/"])
def test_an_anthropic_address_may_end_with_its_version(url: str) -> None:
    assert (
        resolve_connection(provider("anthropic", baseUrl=url), "m", KEYS).base_url
        == "https://a.example"
    )


@pytest.mark.parametrize(
    ("name", "variable"), [("anthropic", "ANTHROPIC_API_KEY"), ("openai", "OPENAI_API_KEY")]
)
def test_a_missing_key_is_named_with_the_place_to_put_it(name: str, variable: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{variable} is not set\. .*\.env"):
        resolve_connection(provider(name), "m", {variable: ""})


def test_the_key_of_another_model_is_that_of_its_provider_and_may_be_missing() -> None:
    connection = resolve_connection(provider("litellm"), "groq/m", {"GROQ_API_KEY": "invented"})
    assert (connection.litellm_model, connection.api_key) == ("groq/m", "invented")
    assert (connection.host, connection.is_anonymous) == ("litellm", False)
    assert resolve_connection(provider("litellm"), "bedrock/m", {}).api_key is None


def test_azure_needs_a_resource_or_an_address() -> None:
    with pytest.raises(ConfigError, match="AZURE_RESOURCE_NAME or baseUrl is not set"):
        resolve_connection(provider("azure-openai"), "m", {"AZURE_API_KEY": "invented"})


@pytest.mark.parametrize(
    ("key", "problem"),
    [("<your key>", "a placeholder"), ("sk-1\nsk-2", "a line break"), ("sk-\u20ac", "no key has")],
)
def test_a_key_that_cannot_be_one_is_named(key: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=rf"^OPENAI_API_KEY has .*{problem}"):
        resolve_connection(provider("openai"), "m", {"OPENAI_API_KEY": key})


def test_white_space_around_a_key_and_an_address_is_taken_off() -> None:
    environment = {"OPENAI_API_KEY": " sk-1\n", "OPENAI_BASE_URL": "https://a.example/v1\n"}
    connection = resolve_connection(provider("openai"), "m", environment)
    assert (connection.api_key, connection.base_url) == ("sk-1", "https://a.example/v1")


@pytest.mark.parametrize("address", ["a.example/v1", "ftp://a.example", "https://"])
def test_an_address_of_the_environment_must_be_one(address: str) -> None:
    environment = {**KEYS, "OPENAI_BASE_URL": address}
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL is no address"):
        resolve_connection(provider("openai"), "m", environment)


def test_organization_and_project_become_headers_beside_the_users_own() -> None:
    environment = {**KEYS, "OPENAI_ORGANIZATION": "env-org", "OPENAI_PROJECT": "env-project"}
    setting = provider("openai", organization="org", headers={"x-team": "blue"})

    assert resolve_connection(setting, "m", environment).headers == {
        "OpenAI-Organization": "org",
        "OpenAI-Project": "env-project",
        "x-team": "blue",
    }


def test_a_connection_does_not_show_its_key() -> None:
    assert "invented" not in repr(resolve_connection(provider("openai"), "m", KEYS))


def test_a_host_is_told_without_credentials() -> None:
    assert host_of("https://user:password@a.example/v1") == "a.example:443"


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [("minimal", 1024), ("low", 2048), ("medium", 5000), ("high", 10_000), (3000, 3000), (5, 1024)],
)
def test_anthropic_thinks_by_tokens(budget: Any, tokens: int) -> None:
    assert ANTHROPIC.reasoning_options(budget, "claude-sonnet-4-5") == {
        "thinking": {"type": "enabled", "budget_tokens": tokens}
    }


@pytest.mark.parametrize(
    ("model", "is_adaptive"),
    [
        ("claude-3-7-sonnet-20250219", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-opus-4-1", False),
        ("claude-haiku-4-5@20251001", False),
        ("claude-opus-4-6", True),
        ("claude-sonnet-5", True),
        ("claude-haiku-5-5@default", True),
        ("claude-mythos-preview", True),
    ],
)
def test_a_newer_claude_thinks_by_effort(model: str, is_adaptive: bool) -> None:
    options = ANTHROPIC.reasoning_options("medium", model)

    assert options["thinking"]["type"] == ("adaptive" if is_adaptive else "enabled")
    assert options.get("output_config") == ({"effort": "medium"} if is_adaptive else None)


def test_anthropics_thinking_leaves_room_for_an_answer() -> None:
    options = ANTHROPIC.reasoning_options(100_000, "claude-3-5-haiku-latest")

    assert options["thinking"]["budget_tokens"] == 8192 - 1024


@pytest.mark.parametrize(
    ("budget", "effort"),
    [
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        (2048, "low"),
        (5000, "medium"),
        (5001, "high"),
    ],
)
def test_openai_thinks_by_effort(budget: Any, effort: str) -> None:
    assert OPENAI.reasoning_options(budget, "gpt-5") == {"reasoning_effort": effort}


@pytest.mark.parametrize("budget", ["none", 0])
def test_no_budget_is_no_option(budget: Any) -> None:
    assert ANTHROPIC.reasoning_options(budget, "m") == {}
