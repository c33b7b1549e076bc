"""Google's Gemini models, by an API key."""

from typing import Any

from perstack.llm.providers.profile import ProviderProfile


def thinking_option(tokens: int, _model: str) -> dict[str, Any]:
    """Thinking with a budget, and with its summary in the reply."""
    return {"thinkingConfig": {"thinkingBudget": tokens, "includeThoughts": True}}


GOOGLE = ProviderProfile(
    name="google",
    wire_format="gemini",
    litellm_prefix="gemini",
    default_base_url="https://generativelanguage.googleapis.com/v1beta",
    base_url_variable="GOOGLE_GENERATIVE_AI_BASE_URL",
    key_variable="GOOGLE_GENERATIVE_AI_API_KEY",
    key_header="x-goog-api-key",
    reasoning=thinking_option,
    thinking_models=r"gemini-(2\.5|[3-9]).*",
    accepts_files=True,
)
