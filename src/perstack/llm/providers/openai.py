"""OpenAI, and servers that speak its Chat Completions."""

from collections.abc import Mapping
from dataclasses import replace

from perstack.definition.model import ProviderSetting
from perstack.llm.providers.profile import ProviderProfile

ORGANIZATION_HEADER = "OpenAI-Organization"
PROJECT_HEADER = "OpenAI-Project"


def account_headers(setting: ProviderSetting, environment: Mapping[str, str]) -> dict[str, str]:
    """The organization and the project that a request is billed to."""
    values = {
        ORGANIZATION_HEADER: setting.organization or environment.get("OPENAI_ORGANIZATION"),
        PROJECT_HEADER: setting.project or environment.get("OPENAI_PROJECT"),
    }
    return {name: value for name, value in values.items() if value}


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
)

# They take tools and thinking together in this format only.
_RESPONSES = replace(_CHAT, wire_format="responses")

OPENAI = replace(
    _CHAT,
    families=((r"gpt-5\.[4-9].*|(gpt-5|o\d).*-(codex|pro).*|codex-.*", _RESPONSES),),
)
