"""Anthropic: signed thinking, cache breakpoints, media inside tool results."""

import re
from collections.abc import Mapping
from typing import Any

from perstack.core.media import PDF_MIME_TYPE, MediaRules
from perstack.definition.model import ProviderSetting
from perstack.definition.provider_tools import ProviderTools
from perstack.llm.catalog import model_facts
from perstack.llm.providers.profile import ProviderProfile, reasoning_effort
from perstack.llm.providers.tool_limits import ToolLimits

MIN_BUDGET_TOKENS = 1024
# Left for the answer itself, when a model's whole output is smaller than the budget.
MIN_ANSWER_TOKENS = 1024


_ADAPTIVE_MODEL = re.compile(r"claude-(mythos|[a-z]+-([5-9]|\d\d|4-[6-9])(?!\d))")
"""Newer models decide by themselves how much to think, and refuse a budget."""


def thinking_option(tokens: int, model: str) -> dict[str, Any]:
    """Thinking by effort, or with a budget that fits the model's output."""
    if _ADAPTIVE_MODEL.search(model):
        return {
            # Unless asked for its summary, the thinking would be empty.
            "thinking": {"type": "adaptive", "display": "summarized"},
            "output_config": {"effort": reasoning_effort(tokens)},
        }
    max_output = model_facts("anthropic", model).max_output
    max_budget = max_output - MIN_ANSWER_TOKENS if max_output else tokens
    budget = max(MIN_BUDGET_TOKENS, min(tokens, max_budget))
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def version_header(_setting: ProviderSetting, _environment: Mapping[str, str]) -> dict[str, str]:
    """The version of the API, which each request must name."""
    return {"anthropic-version": "2023-06-01"}


FILTERING_MODELS = r"claude-(opus|sonnet)-(4-[6-9]|[5-9]).*"
"""They filter what they search for and fetch with code of their own."""

FILE_BETA = "files-api-2025-04-14"
"""The feature with which files are fetched that code has written."""

SKILL_BETAS = f"code-execution-2025-08-25,skills-2025-10-02,{FILE_BETA}"
"""The features that skills are a part of."""


def _web_version(tools: ProviderTools, model: str, plain_version: str) -> str:
    # Filtering brings a second place where code is executed, which confuses models.
    executes_code = "codeExecution" in tools.names
    filters = re.fullmatch(FILTERING_MODELS, model) and not executes_code
    return "20260209" if filters else plain_version


def web_search(tools: ProviderTools, model: str) -> dict[str, Any]:
    options = tools.options.get("webSearch", {})
    domains = options.get("allowedDomains")
    return {
        "type": f"web_search_{_web_version(tools, model, '20250305')}",
        "name": "web_search",
        **_use_limit(options),
        **({"allowed_domains": domains} if domains else {}),
    }


def web_fetch(tools: ProviderTools, model: str) -> dict[str, Any]:
    return {
        "type": f"web_fetch_{_web_version(tools, model, '20250910')}",
        "name": "web_fetch",
        **_use_limit(tools.options.get("webFetch", {})),
        "citations": {"enabled": True},
    }


def code_execution(_tools: ProviderTools, _model: str) -> dict[str, Any]:
    return {"type": "code_execution_20250825", "name": "code_execution"}


def _use_limit(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"max_uses": options["maxUses"]} if "maxUses" in options else {}


def feature_headers(tools: ProviderTools) -> dict[str, str]:
    """The header with the features that are needed; most tools need none to be named."""
    if tools.skills:
        return {"anthropic-beta": SKILL_BETAS}
    return {"anthropic-beta": FILE_BETA} if "codeExecution" in tools.names else {}


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
    media_rules=MediaRules(file_types=re.escape(PDF_MIME_TYPE)),
    accepts_image_urls=True,
    accepts_file_urls=True,
    accepts_media_in_results=True,
    has_signed_thinking=True,
    has_cache_breakpoints=True,
    requires_max_tokens=True,
    tool_limits=ToolLimits(property_names=r"[a-zA-Z0-9_.-]{1,64}"),
    provider_tools={
        "webSearch": web_search,
        "webFetch": web_fetch,
        "codeExecution": code_execution,
    },
    provider_tool_headers=feature_headers,
)
