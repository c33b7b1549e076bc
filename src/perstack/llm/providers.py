"""How each provider is reached: the route through litellm, the key, the address and the headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from perstack.definition.model import Provider, ProviderName, ReasoningBudget
from perstack.errors import ConfigError
from perstack.llm.catalog import model_limits
from perstack.redaction import environment_secrets

OPENAI_ORGANIZATION_HEADER = "OpenAI-Organization"
OPENAI_PROJECT_HEADER = "OpenAI-Project"


@dataclass(frozen=True, slots=True)
class ProviderProfile:
    """What is fixed for a provider.

    Attributes:
        litellm_prefix: litellm's name of the provider.
        default_base_url: Passed on every call, so that no variable of the process can redirect one.
        key_variable: Environment variable of the key; `None` where no key is needed.
        base_url_variable: Environment variable that replaces the default address.
        appended_path: Path that litellm appends itself; taken off an address that already has it.
    """

    litellm_prefix: str
    default_base_url: str
    key_variable: str | None
    base_url_variable: str
    appended_path: str = ""


PROVIDER_PROFILES: dict[ProviderName, ProviderProfile] = {
    "anthropic": ProviderProfile(
        "anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "/v1"
    ),
    "openai": ProviderProfile(
        "openai", "https://api.openai.com/v1", "OPENAI_API_KEY", "OPENAI_BASE_URL"
    ),
    "ollama": ProviderProfile(
        "ollama_chat", "http://localhost:11434", None, "OLLAMA_BASE_URL", "/api"
    ),
}


@dataclass(frozen=True, slots=True, repr=False)
class ProviderConnection:
    """What one call needs beside the conversation. Holds the key, so it has no `repr`.

    Attributes:
        model: litellm's name of the model, with the provider's prefix.
        secrets: Values that no message may contain: every key that is known, because a provider
            may echo what it was sent, and the headers that a user adds.
    """

    provider: ProviderName
    model: str
    base_url: str
    api_key: str | None
    headers: dict[str, str]
    secrets: tuple[str, ...]

    @property
    def is_anonymous(self) -> bool:
        """Whether the request must carry no credential."""
        names = {name.lower() for name in self.headers}
        return self.api_key is None and "authorization" not in names

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return host_of(self.base_url)


def host_of(url: str) -> str:
    """`host:port` of a URL, without the credentials that it may carry."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}"


def resolve_connection(
    provider: Provider, model: str, environment: Mapping[str, str]
) -> ProviderConnection:
    """How to reach a model. A setting in the file beats the environment.

    Raises:
        ConfigError: The provider is not supported yet, or its key is not set.
    """
    name = provider.provider_name
    route = PROVIDER_PROFILES.get(name)
    if route is None:
        raise ConfigError(
            f"provider {name!r} is not supported yet.",
            hint=f"Supported are {', '.join(sorted([*PROVIDER_PROFILES, 'scripted']))}.",
        )
    headers = _headers(provider, environment)
    base_url = provider.setting.base_url or environment.get(route.base_url_variable)
    return ProviderConnection(
        provider=name,
        model=f"{route.litellm_prefix}/{model}",
        base_url=(base_url or route.default_base_url).rstrip("/").removesuffix(route.appended_path),
        api_key=_api_key(route, environment),
        headers=headers,
        secrets=(*environment_secrets(environment), *headers.values()),
    )


def _api_key(route: ProviderProfile, environment: Mapping[str, str]) -> str | None:
    if route.key_variable is None:
        return None
    key = environment.get(route.key_variable)
    if not key:
        raise ConfigError(
            f"{route.key_variable} is not set.",
            hint="Put it into .env or into the environment.",
        )
    return key


def _headers(provider: Provider, environment: Mapping[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    if provider.provider_name == "openai":
        setting = provider.setting
        organization = setting.organization or environment.get("OPENAI_ORGANIZATION")
        project = setting.project or environment.get("OPENAI_PROJECT")
        if organization:
            headers[OPENAI_ORGANIZATION_HEADER] = organization
        if project:
            headers[OPENAI_PROJECT_HEADER] = project
    return {**headers, **provider.setting.headers}


_BUDGET_TOKENS: dict[str, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 2048,
    "medium": 5000,
    "high": 10_000,
}
_MIN_ANTHROPIC_BUDGET = 1024
# Left for the answer itself, when a model's whole output is smaller than the budget.
_MIN_ANSWER_TOKENS = 1024


def reasoning_options(
    budget: ReasoningBudget, provider: ProviderName, model: str
) -> dict[str, Any]:
    """The options of a call; none where thinking is off or the provider has no switch for it."""
    tokens = _BUDGET_TOKENS[budget] if isinstance(budget, str) else budget
    if tokens == 0:
        return {}
    match provider:
        case "anthropic":
            return {
                "thinking": {"type": "enabled", "budget_tokens": _anthropic_budget(tokens, model)}
            }
        case "openai":
            return {"reasoning_effort": reasoning_effort(tokens)}
        case "ollama":
            return {"reasoning_effort": reasoning_effort(tokens)}
        case _:
            return {}


def reasoning_effort(tokens: int) -> str:
    """The effort that a number of tokens stands for."""
    if tokens <= _BUDGET_TOKENS["low"]:
        return "low"
    return "medium" if tokens <= _BUDGET_TOKENS["medium"] else "high"


def _anthropic_budget(tokens: int, model: str) -> int:
    limits = model_limits("anthropic", model)
    max_budget = limits.max_output - _MIN_ANSWER_TOKENS if limits else tokens
    return max(_MIN_ANTHROPIC_BUDGET, min(tokens, max_budget))
