"""Real models at the fake endpoint: every provider, streamed or not."""

import pytest

from perstack.definition.model import Provider, ProviderName
from tests.llm.conversation import Listener, provider_at
from tests.model_server import ModelServer

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "invented-id",
    "AWS_SECRET_ACCESS_KEY": "invented-s",
    "AWS_REGION": "eu-west-1",
    "ANTHROPIC_API_KEY": "invented-a",
    "AZURE_API_KEY": "invented-az",
    "DEEPSEEK_API_KEY": "invented-d",
    "FIREWORKS_API_KEY": "invented-f",
    "GOOGLE_GENERATIVE_AI_API_KEY": "invented-g",
    "OPENAI_API_KEY": "invented-o",
}
MODELS: dict[ProviderName, str] = {
    "amazon-bedrock": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "anthropic": "claude-sonnet-4-5",
    "azure-openai": "gpt-5",
    "deepseek": "deepseek-chat",
    "fireworks": "accounts/fireworks/models/kimi-k2p5",
    "google": "gemini-2.5-flash",
    "google-vertex": "gemini-2.5-flash",
    "openai": "gpt-5",
    "ollama": "llama3",
}
DIRECT_ONLY = frozenset[ProviderName]({"amazon-bedrock", "azure-openai", "google", "google-vertex"})
"""Providers whose addresses litellm makes in another way."""

ROUTES = [("direct", name) for name in MODELS] + [
    ("litellm", name) for name in MODELS if name not in DIRECT_ONLY
]
every_provider = pytest.mark.parametrize(("model", "name"), ROUTES, indirect=["model"])
streamed_or_not = pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])


def provider(server: ModelServer, name: ProviderName) -> Provider:
    paths: dict[ProviderName, str] = {
        "azure-openai": "/openai",
        "google": "/v1beta",
        "google-vertex": "/v1/projects/our-own/locations/global/publishers/google",
        "fireworks": "/inference/v1",
        "openai": "/v1",
    }
    return provider_at(name, server.base_url + paths.get(name, ""))


def listener(*, is_stream: bool) -> Listener | None:
    return Listener() if is_stream else None
