"""Anthropic: signed thinking, cache breakpoints, media inside tool results."""

from collections.abc import Mapping
from typing import Any

from perstack.definition.model import ProviderSetting
from perstack.llm.catalog import model_limits
from perstack.llm.providers.profile import ProviderProfile

MIN_BUDGET_TOKENS = 1024
# Left for the answer itself, when a model's whole output is smaller than the budget.
MIN_ANSWER_TOKENS = 1024


def thinking_option(tokens: int, model: str) -> dict[str, Any]:
    """Thinking with a budget that fits the model's output."""
    limits = model_limits("anthropic", model)
    max_budget = limits.max_output - MIN_ANSWER_TOKENS if limits else tokens
    budget = max(MIN_BUDGET_TOKENS, min(tokens, max_budget))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def version_header(_setting: ProviderSetting, _environment: Mapping[str, str]) -> dict[str, str]:
    """The version of the API, which each request must name."""
    return {"anthropic-version": "2023-06-01"}


ANTHROPIC = ProviderProfile(
    name="anthropic",
    wire_format="anthropic_messages",
    litellm_prefix="anthropic",
    default_base_url="https://api.anthropic.com",
    base_url_variable="ANTHROPIC_BASE_URL",
    key_variable="ANTHROPIC_API_KEY",
    key_header="x-api-key",
    headers=version_header,
    appended_path="/v1",
    reasoning=thinking_option,
    accepts_files=True,
    accepts_image_urls=True,
    accepts_file_urls=True,
    accepts_media_in_results=True,
    has_signed_thinking=True,
    has_cache_breakpoints=True,
    requires_max_tokens=True,
)
