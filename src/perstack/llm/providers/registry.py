"""The providers that models can be reached through."""

from perstack.definition.model import ProviderName
from perstack.llm.providers.amazon_bedrock import AMAZON_BEDROCK
from perstack.llm.providers.anthropic import ANTHROPIC
from perstack.llm.providers.azure_openai import AZURE_OPENAI
from perstack.llm.providers.deepseek import DEEPSEEK
from perstack.llm.providers.fireworks import FIREWORKS
from perstack.llm.providers.google import GOOGLE
from perstack.llm.providers.google_vertex import GOOGLE_VERTEX
from perstack.llm.providers.litellm import LITELLM
from perstack.llm.providers.ollama import OLLAMA
from perstack.llm.providers.openai import OPENAI
from perstack.llm.providers.profile import ProviderProfile

PROVIDER_PROFILES: dict[ProviderName, ProviderProfile] = {
    profile.name: profile
    for profile in (
        AMAZON_BEDROCK,
        ANTHROPIC,
        AZURE_OPENAI,
        DEEPSEEK,
        FIREWORKS,
        GOOGLE,
        GOOGLE_VERTEX,
        LITELLM,
        OLLAMA,
        OPENAI,
    )
}


def provider_profile(name: ProviderName) -> ProviderProfile:
    """The profile of any provider but `scripted`, which is none of a real model."""
    return PROVIDER_PROFILES[name]
