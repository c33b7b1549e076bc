"""How one call reaches its provider: address, key and headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from perstack.definition.model import Provider
from perstack.errors import ConfigError
from perstack.llm.providers.aws_credentials import AwsCredentials, aws_credentials
from perstack.llm.providers.keys import optional_key, required_key
from perstack.llm.providers.profile import ProviderProfile
from perstack.llm.providers.registry import provider_profile
from perstack.redaction import environment_secrets

PROXY_VARIABLE = "PERSTACK_PROXY_URL"
"""Names a proxy for every request to a model."""


@dataclass(frozen=True, slots=True, repr=False)
class ProviderConnection:
    """Address and credentials of one call. Holds the key, so it has no `repr`.

    Attributes:
        profile: The provider.
        model: The provider's name of the model.
        litellm_model: litellm's name of it, with the provider's prefix.
        chat_path: The path of Chat Completions behind the address.
        responses_path: The path of Responses behind it.
        signing: What requests are signed with, where no key authorizes them.
        secrets: Values that no message may contain: every key that is known, because a provider
            may echo what it was sent, and the headers that a user adds.
    """

    profile: ProviderProfile
    model: str
    litellm_model: str
    base_url: str
    chat_path: str
    responses_path: str
    api_key: str | None
    signing: AwsCredentials | None
    headers: dict[str, str]
    secrets: tuple[str, ...]

    @property
    def is_anonymous(self) -> bool:
        """Whether the request must carry no credential."""
        has_own = self.profile.model_key_variable is not None
        return self.api_key is None and not has_own and not self.has_own_authorization

    @property
    def has_own_authorization(self) -> bool:
        """Whether the user's headers authorize the request."""
        return _is_authorized(self.headers)

    @property
    def key_headers(self) -> dict[str, str]:
        """The header with the key, if there is one."""
        if self.api_key is None:
            return {}
        name = self.profile.key_header
        return {name: f"Bearer {self.api_key}" if name == "Authorization" else self.api_key}

    @property
    def endpoint(self) -> tuple[str, str]:
        """The address and the model."""
        return self.base_url, self.model

    def file_url(self, path: str) -> str:
        """The address of a file that the provider keeps."""
        return f"{self.base_url}{self.responses_path.replace('/responses', path, 1)}"

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return host_of(self.base_url) if self.base_url else self.profile.name


def host_of(url: str) -> str:
    """`host:port` of a URL, without the credentials that it may carry."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"


def resolve_connection(
    provider: Provider, model: str, environment: Mapping[str, str]
) -> ProviderConnection:
    """How to reach a model. A setting in the file takes precedence over the environment.

    Raises:
        ConfigError: A key or another setting is missing, or cannot be one.
    """
    profile = provider_profile(provider.provider_name).of_model(model)
    setting = provider.setting
    headers = {**profile.headers(setting, environment), **setting.headers}
    base_url = setting.base_url or _address(environment, profile.base_url_variable)
    if base_url is None:
        default = profile.default_base_url
        base_url = default if isinstance(default, str) else default(setting, environment)
    api_key = _api_key(profile, model, environment)
    is_signed = profile.authorization == "aws" and api_key is None
    signing = (
        aws_credentials(setting, environment) if is_signed and not _is_authorized(headers) else None
    )
    return ProviderConnection(
        profile=profile,
        model=model,
        litellm_model=f"{profile.litellm_prefix}/{model}".removeprefix("/"),
        base_url=base_url.rstrip("/").removesuffix(profile.appended_path),
        chat_path=profile.chat_path(model, setting, environment),
        responses_path=profile.responses_path(model, setting, environment),
        api_key=api_key,
        signing=signing,
        headers=headers,
        secrets=(*environment_secrets(environment), *setting.headers.values()),
    )


def _is_authorized(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "authorization" for name in headers)


def _api_key(profile: ProviderProfile, model: str, environment: Mapping[str, str]) -> str | None:
    if profile.model_key_variable is not None:
        return optional_key(profile.model_key_variable(model), environment)
    if profile.key_variable is None:
        return None
    return required_key(profile.key_variable, environment)


def _address(environment: Mapping[str, str], variable: str) -> str | None:
    address = environment.get(variable, "").strip()
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"{variable} is no address of a server.", hint="Write one such as https://host/v1."
        )
    return address
