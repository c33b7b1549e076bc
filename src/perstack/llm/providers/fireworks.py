"""Fireworks: Chat Completions for open models."""

from perstack.llm.providers.profile import ProviderProfile

FIREWORKS = ProviderProfile(
    name="fireworks",
    wire_format="chat_completions",
    litellm_prefix="fireworks_ai",
    default_base_url="https://api.fireworks.ai/inference/v1",
    base_url_variable="FIREWORKS_BASE_URL",
    key_variable="FIREWORKS_API_KEY",
    thinking_models=r".*(gpt-oss|thinking).*",
    returns_reasoning=True,
    accepts_image_urls=True,
)
