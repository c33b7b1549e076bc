"""OpenAI's models on Azure: the address has the resource, and may have the deployment."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from perstack.definition.model import ProviderSetting
from perstack.definition.provider_tools import ProviderTools
from perstack.errors import ConfigError
from perstack.llm.providers.openai import COMMON_TOOLS, MAX_TOOLS
from perstack.llm.providers.profile import ProviderProfile
from perstack.llm.providers.tool_limits import ToolLimits

RESOURCE_VARIABLE = "AZURE_RESOURCE_NAME"
VERSION_VARIABLE = "AZURE_API_VERSION"
DEFAULT_VERSION = "v1"


def resource_url(setting: ProviderSetting, environment: Mapping[str, str]) -> str:
    """The address of the resource.

    Raises:
        ConfigError: No resource is named.
    """
    resource = setting.resource_name or environment.get(RESOURCE_VARIABLE, "").strip()
    if not resource:
        raise ConfigError(
            f"{RESOURCE_VARIABLE} or baseUrl is not set.",
            hint="Name the resource in the environment, or in [provider.setting] as resourceName.",
        )
    return f"https://{resource}.openai.azure.com/openai"


def chat_path(model: str, setting: ProviderSetting, environment: Mapping[str, str]) -> str:
    """The path of a model, which on Azure is the name of a deployment."""
    query = _version_query(setting, environment)
    if setting.use_deployment_based_urls:
        return f"/deployments/{quote(model, safe='')}/chat/completions{query}"
    return f"/v1/chat/completions{query}"


def responses_path(_model: str, setting: ProviderSetting, environment: Mapping[str, str]) -> str:
    """The path for every model: Responses name the deployment in the body."""
    return f"/v1/responses{_version_query(setting, environment)}"


def _version_query(setting: ProviderSetting, environment: Mapping[str, str]) -> str:
    version = setting.api_version or environment.get(VERSION_VARIABLE, "").strip()
    return f"?api-version={version or DEFAULT_VERSION}"


def web_search_preview(_tools: ProviderTools, _model: str) -> dict[str, Any]:
    return {"type": "web_search_preview"}


AZURE_OPENAI = ProviderProfile(
    name="azure-openai",
    wire_format="chat_completions",
    litellm_prefix="azure",
    default_base_url=resource_url,
    base_url_variable="AZURE_BASE_URL",
    key_variable="AZURE_API_KEY",
    key_header="api-key",
    chat_path=chat_path,
    responses_path=responses_path,
    thinking_models=r"(o\d|gpt-5(?!-chat)).*",
    accepts_files=True,
    accepts_image_urls=True,
    tool_limits=ToolLimits(max_tools=MAX_TOOLS, max_description=1024),
    provider_tools={"webSearchPreview": web_search_preview, **COMMON_TOOLS},
)
