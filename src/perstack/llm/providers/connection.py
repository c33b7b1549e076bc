"""How one call reaches its provider: address, key and headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from perstack.definition.model import Provider
from perstack.errors import ConfigError
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
        return any(name.lower() == "authorization" for name in self.headers)

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
        ConfigError: The provider is not supported yet, or its key is not set.
    """
    profile = provider_profile(provider.provider_name).of_model(model)
    setting = provider.setting
    headers = {**profile.headers(setting, environment), **setting.headers}
    base_url = setting.base_url or _address(environment, profile.base_url_variable)
    if base_url is None:
        default = profile.default_base_url
        base_url = default if isinstance(default, str) else default(setting, environment)
    return ProviderConnection(
        profile=profile,
        model=model,
        litellm_model=f"{profile.litellm_prefix}/{model}".removeprefix("/"),
        base_url=base_url.rstrip("/").removesuffix(profile.appended_path),
        chat_path=profile.chat_path(model, setting, environment),
        responses_path=profile.responses_path(model, setting, environment),
        api_key=_api_key(profile, model, environment),
        headers=headers,
        secrets=(*environment_secrets(environment), *setting.headers.values()),
    )


def _api_key(profile: ProviderProfile, model: str, environment: Mapping[str, str]) -> str | None:
    if profile.model_key_variable is not None:
        return environment.get(profile.model_key_variable(model), "").strip() or None
    if profile.key_variable is None:
        return None
    # Keys that are read from files end in a newline.
    key = environment.get(profile.key_variable, "").strip()
    hint = "Put it into .env or into the environment."
    if not key:
        raise ConfigError(f"{profile.key_variable} is not set.", hint=hint)
    if _PLACEHOLDER.fullmatch(key):
        raise ConfigError(f"{profile.key_variable} has a placeholder instead of a key.", hint=hint)
    if not _HEADER_VALUE.fullmatch(key):
        raise ConfigError(
            f"{profile.key_variable} has a character that no key has, such as a line break.",
            hint="Write the key on one line.",
        )
    return key


_PLACEHOLDER = re.compile(r"<.*>|\$\{.*\}|\.\.\.|…", re.DOTALL)
_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")


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
