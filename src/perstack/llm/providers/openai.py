"""OpenAI, and servers that speak its Chat Completions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perstack.definition.model import ProviderSetting
from perstack.definition.provider_tools import ProviderTools
from perstack.llm.providers.profile import ProviderProfile, ProviderTool
from perstack.llm.providers.tool_limits import ToolLimits

ORGANIZATION_HEADER = "OpenAI-Organization"
PROJECT_HEADER = "OpenAI-Project"
MAX_TOOLS = 128


def account_headers(setting: ProviderSetting, environment: Mapping[str, str]) -> dict[str, str]:
    """The organization and the project that a request is billed to."""
    values = {
        ORGANIZATION_HEADER: setting.organization or environment.get("OPENAI_ORGANIZATION"),
        PROJECT_HEADER: setting.project or environment.get("OPENAI_PROJECT"),
    }
    return {name: value for name, value in values.items() if value}


def web_search(tools: ProviderTools, _model: str) -> dict[str, Any]:
    domains = tools.options.get("webSearch", {}).get("allowedDomains")
    filters = {"filters": {"allowed_domains": domains}} if domains else {}
    return {"type": "web_search", **filters}


def file_search(tools: ProviderTools, _model: str) -> dict[str, Any]:
    options = tools.options["fileSearch"]
    limit = options.get("maxNumResults")
    return {
        "type": "file_search",
        "vector_store_ids": options["vectorStoreIds"],
        **({"max_num_results": limit} if limit else {}),
    }


def code_interpreter(_tools: ProviderTools, _model: str) -> dict[str, Any]:
    return {"type": "code_interpreter", "container": {"type": "auto"}}


def image_generation(_tools: ProviderTools, _model: str) -> dict[str, Any]:
    return {"type": "image_generation"}


COMMON_TOOLS: dict[str, ProviderTool] = {
    "fileSearch": file_search,
    "codeInterpreter": code_interpreter,
    "imageGeneration": image_generation,
}
"""The tools that OpenAI's models have on Azure too."""


_CHAT = ProviderProfile(
    name="openai",
    wire_format="chat_completions",
    litellm_prefix="openai",
    default_base_url="https://api.openai.com/v1",
    base_url_variable="OPENAI_BASE_URL",
    key_variable="OPENAI_API_KEY",
    # Any other may be a model of any server: most refuse an option that they do not know.
    thinking_models=r"(.*/)?(o\d|gpt-5(?!-chat)|gpt-oss).*",
    headers=account_headers,
    # Servers with a thinking mode, DeepSeek's among them, refuse a history without it.
    returns_reasoning=True,
    accepts_files=True,
    accepts_image_urls=True,
    tool_limits=ToolLimits(max_tools=MAX_TOOLS),
    provider_tools={"webSearch": web_search, **COMMON_TOOLS},
)

# They take tools and thinking together in this format only.
_RESPONSES = replace(_CHAT, wire_format="responses")

OPENAI = replace(
    _CHAT,
    families=((r"gpt-5\.[4-9].*|(gpt-5|o\d).*-(codex|pro).*|codex-.*", _RESPONSES),),
)
