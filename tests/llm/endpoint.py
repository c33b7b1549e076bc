"""Real models at the fake endpoint: every provider, streamed or not."""

import pytest

from perstack.definition.model import Provider, ProviderName
from tests.llm.conversation import Listener, provider_at
from tests.model_server import ModelServer

ENVIRONMENT = {"ANTHROPIC_API_KEY": "invented-a", "OPENAI_API_KEY": "invented-o"}
MODELS: dict[ProviderName, str] = {
    "anthropic": "claude-sonnet-4-5",
    "openai": "gpt-5",
    "ollama": "llama3",
}
every_provider = pytest.mark.parametrize("name", list(MODELS))
streamed_or_not = pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])


def provider(server: ModelServer, name: ProviderName) -> Provider:
    return provider_at(name, server.base_url + ("/v1" if name == "openai" else ""))


def listener(*, is_stream: bool) -> Listener | None:
    return Listener() if is_stream else None
