"""Google's Gemini models, by an API key."""

from typing import Any

from perstack.core.media import MEBIBYTE, MediaRules
from perstack.definition.provider_tools import ProviderTools
from perstack.llm.providers.profile import ProviderProfile, ProviderTool
from perstack.llm.providers.tool_limits import ToolLimits


def thinking_option(tokens: int, _model: str) -> dict[str, Any]:
    """Thinking with a budget, and with its summary in the reply."""
    return {"thinkingConfig": {"thinkingBudget": tokens, "includeThoughts": True}}


def file_search(tools: ProviderTools, _model: str) -> dict[str, Any]:
    options = tools.options["fileSearch"]
    limit = options.get("maxNumResults")
    stores = {"fileSearchStoreNames": options["vectorStoreIds"]}
    return {"fileSearch": {**stores, **({"topK": limit} if limit else {})}}


def plain_tool(name: str) -> ProviderTool:
    """A tool without options."""
    return lambda _tools, _model: {name: {}}


COMMON_TOOLS: dict[str, ProviderTool] = {
    name: plain_tool(name) for name in ("codeExecution", "googleMaps", "googleSearch", "urlContext")
}
"""The tools that Gemini models have on Vertex AI too, which adds `enterpriseWebSearch`."""


GEMINI_MEDIA = MediaRules(
    max_image_characters=20 * MEBIBYTE,
    file_types=r"application/pdf|audio/.+|video/.+|image/hei[cf]",
)
TOOL_LIMITS = ToolLimits(
    max_tools=512,
    property_names=r"[a-zA-Z_][a-zA-Z0-9_]{0,63}",
    # It takes references that lead back to themselves in few places only.
    has_references=False,
    has_plain_enums=True,
)

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
    media_rules=GEMINI_MEDIA,
    tool_limits=TOOL_LIMITS,
    provider_tools={**COMMON_TOOLS, "fileSearch": file_search},
    # Without it the model may not have both; Vertex AI refuses it.
    mixed_tool_options={"toolConfig": {"includeServerSideToolInvocations": True}},
)
