"""OpenAI's models on Azure: the address has the resource, and may have the deployment."""

from collections.abc import Mapping

from perstack.definition.model import ProviderSetting
from perstack.errors import ConfigError
from perstack.llm.providers.profile import ProviderProfile

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
    version = setting.api_version or environment.get(VERSION_VARIABLE, "").strip()
    query = f"?api-version={version or DEFAULT_VERSION}"
    if setting.use_deployment_based_urls:
        return f"/deployments/{model}/chat/completions{query}"
    return f"/v1/chat/completions{query}"


AZURE_OPENAI = ProviderProfile(
    name="azure-openai",
    wire_format="chat_completions",
    litellm_prefix="azure",
    default_base_url=resource_url,
    base_url_variable="AZURE_BASE_URL",
    key_variable="AZURE_API_KEY",
    key_header="api-key",
    chat_path=chat_path,
    thinking_models=r"(o\d|gpt-5(?!-chat)).*",
    accepts_files=True,
    accepts_image_urls=True,
)
