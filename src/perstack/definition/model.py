"""What `perstack.toml` says, validated: the snapshot that every face and every run works from."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from perstack.definition.names import (
    BASE_SKILL,
    EnvironmentName,
    ExpertKey,
    PackageSpec,
    RuntimeVersion,
    SkillName,
    Tag,
    ToolName,
    Version,
    is_delegate_name,
)
from perstack.definition.record import Record

ProviderName = Literal[
    "anthropic",
    "google",
    "openai",
    "fireworks",
    "deepseek",
    "ollama",
    "azure-openai",
    "amazon-bedrock",
    "google-vertex",
    "scripted",
]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high"]
ReasoningBudget = ReasoningEffort | Annotated[int, Field(ge=0)]
ModelTier = Literal["low", "middle", "high"]
Description = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Rule = Annotated[str, StringConstraints(max_length=2048)]
DomainPattern = Annotated[str, StringConstraints(max_length=255)]

DEFAULT_MAX_STEPS = 100
DEFAULT_MAX_RETRIES = 5
DEFAULT_TIMEOUT_MS = 300_000
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

PROVIDER_SETTINGS: dict[str, frozenset[str]] = {
    "anthropic": frozenset({"baseUrl", "headers"}),
    "google": frozenset({"baseUrl", "headers"}),
    "openai": frozenset({"baseUrl", "organization", "project", "name", "headers"}),
    "fireworks": frozenset({"baseUrl", "headers"}),
    "deepseek": frozenset({"baseUrl", "headers"}),
    "ollama": frozenset({"baseUrl", "headers"}),
    "azure-openai": frozenset(
        {"resourceName", "apiVersion", "baseUrl", "headers", "useDeploymentBasedUrls"}
    ),
    "amazon-bedrock": frozenset({"region"}),
    "google-vertex": frozenset({"project", "location", "baseUrl", "headers"}),
    "scripted": frozenset({"script"}),
}


class ProviderSetting(Record):
    """`[provider.setting]`: which keys are allowed depends on the provider."""

    base_url: str | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    organization: str | None = None
    project: str | None = None
    name: str | None = None
    resource_name: str | None = None
    api_version: str | None = None
    use_deployment_based_urls: bool | None = None
    region: str | None = None
    location: str | None = None
    script: str | None = Field(
        default=None, description="Path of the script of replies, relative to perstack.toml."
    )


class Provider(Record):
    """`[provider]`: who generates, and how to reach them."""

    provider_name: ProviderName
    setting: ProviderSetting = Field(default_factory=ProviderSetting)

    @model_validator(mode="after")
    def _setting_fits_provider(self) -> Self:
        given = self.setting.model_dump(exclude_unset=True)
        surplus = sorted(set(given) - PROVIDER_SETTINGS[self.provider_name])
        if surplus:
            raise ValueError(f"{self.provider_name} has no setting {', '.join(surplus)}")
        url = self.setting.base_url
        if url is not None and not _is_allowed_base_url(self.provider_name, url):
            raise ValueError("setting.baseUrl must use HTTPS (http only for ollama and this machine)")
        return self


def _is_allowed_base_url(provider: str, url: str) -> bool:
    parts = urlsplit(url)
    if not parts.hostname:
        return False
    if parts.scheme == "http":
        return provider == "ollama" or parts.hostname in LOOPBACK_HOSTS
    return parts.scheme == "https"


class InteractiveTool(Record):
    """A tool whose call stops the run until a person or an application answers."""

    description: Description | None = None
    input_json_schema: Annotated[str, StringConstraints(max_length=20_480)] = Field(
        default='{"type":"object"}', description="JSON Schema of the arguments, as a JSON string."
    )


class SkillCommon(Record):
    """What every kind of skill has."""

    description: Description | None = None
    rule: Rule | None = Field(default=None, description="Added to the expert's system prompt.")


class ToolFilter(SkillCommon):
    """A skill backed by a server, whose tools can be narrowed: `omit` first, then `pick`."""

    pick: tuple[ToolName, ...] = Field(default=(), max_length=255)
    omit: tuple[ToolName, ...] = Field(default=(), max_length=255)
    allowed_domains: tuple[DomainPattern, ...] = ()
    required_env: tuple[EnvironmentName, ...] = Field(default=(), max_length=255)

    @field_validator("allowed_domains")
    @classmethod
    def _domains_are_plain(cls, domains: tuple[str, ...]) -> tuple[str, ...]:
        for domain in domains:
            _check_domain(domain)
        return domains


def _check_domain(domain: str) -> None:
    labels = domain.removeprefix("*.").split(".")
    if any(label.lower().startswith("xn--") for label in labels):
        raise ValueError(
            f"{domain!r} is a punycode domain (xn--), which look-alike attacks use; give ASCII domains"
        )
    label_pattern = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    if not all(re.fullmatch(label_pattern, label) for label in labels):
        raise ValueError(f"{domain!r} is no domain pattern; write example.com or *.example.com")


class McpStdioSkill(ToolFilter):
    """An MCP server that is started as a child process and spoken to over its stdin and stdout."""

    type: Literal["mcpStdioSkill"]
    command: Annotated[str, StringConstraints(min_length=1)]
    package_name: PackageSpec | None = None
    args: tuple[str, ...] = ()
    lazy_init: bool = False

    @model_validator(mode="after")
    def _one_way_to_start(self) -> Self:
        if self.package_name is not None and self.args:
            raise ValueError("has both packageName and args; give only one of them")
        return self


class McpSseSkill(ToolFilter):
    """An MCP server reached over HTTP: Streamable HTTP first, the older SSE transport as a fallback."""

    type: Literal["mcpSseSkill"]
    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    headers: dict[str, str] = Field(
        default_factory=dict, description="Sent with each request; ${NAME} takes a requiredEnv value."
    )
    allow_private: bool = Field(
        default=False, description="Allow an endpoint on this machine or in a private network."
    )


class InteractiveSkill(SkillCommon):
    """Tools that a person or an application answers; only for runs that nobody delegated."""

    type: Literal["interactiveSkill"]
    tools: dict[ToolName, InteractiveTool] = Field(max_length=255)


Skill = Annotated[McpStdioSkill | McpSseSkill | InteractiveSkill, Field(discriminator="type")]


def base_skill() -> McpStdioSkill:
    """The built-in base skill as every expert has it."""
    return McpStdioSkill(
        type="mcpStdioSkill", description="Base skill", command="npx", package_name=BASE_SKILL
    )


class Expert(Record):
    """One `[experts."<key>"]` table. `key` and `name` are the table key; the other fields are its content."""

    key: ExpertKey = Field(exclude=True)
    version: Version = "1.0.0"
    min_runtime_version: RuntimeVersion | None = None
    description: Description | None = None
    instruction: Annotated[str, StringConstraints(min_length=1, max_length=20_480)]
    skills: dict[SkillName, Skill] = Field(default_factory=dict, max_length=255, validate_default=True)
    delegates: tuple[ExpertKey, ...] = Field(default=(), max_length=255)
    tags: tuple[Tag, ...] = Field(default=(), max_length=8)
    default_model_tier: ModelTier | None = None
    provider_tools: tuple[str, ...] = ()
    provider_skills: tuple[dict[str, Any], ...] = ()
    provider_tool_options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("skills")
    @classmethod
    def _always_has_the_base_skill(cls, skills: dict[str, Skill]) -> dict[str, Skill]:
        return {BASE_SKILL: base_skill(), **skills}

    @property
    def name(self) -> str:
        """The name other experts delegate to."""
        return self.key

    @property
    def is_delegate(self) -> bool:
        """Whether this expert belongs to a coordinator (`@coordinator/name`)."""
        return is_delegate_name(self.key)


class Definitions(Record):
    """A whole `perstack.toml`: an immutable snapshot. Running jobs keep the one they started with."""

    path: Path | None = Field(default=None, exclude=True)
    model: str | None = None
    provider: Provider = Field(default_factory=lambda: Provider(provider_name="anthropic"))
    reasoning_budget: ReasoningBudget = "low"
    max_steps: Annotated[int, Field(ge=1)] = DEFAULT_MAX_STEPS
    max_retries: Annotated[int, Field(ge=0)] = DEFAULT_MAX_RETRIES
    timeout: Annotated[int, Field(ge=1, description="Milliseconds for one generation.")] = (
        DEFAULT_TIMEOUT_MS
    )
    env_path: tuple[str, ...] = (".env", ".env.local")
    experts: dict[ExpertKey, Expert] = Field(default_factory=dict)
    perstack_api_base_url: str = "https://api.perstack.ai"
    perstack_base_skill_command: tuple[str, ...] | None = Field(default=None, min_length=1)

    @field_validator("perstack_api_base_url")
    @classmethod
    def _api_uses_https(cls, url: str) -> str:
        if urlsplit(url).scheme != "https":
            raise ValueError("must use HTTPS")
        return url

    def coordinators(self) -> tuple[Expert, ...]:
        """The experts that are nobody's delegate by name, in file order."""
        return tuple(expert for expert in self.experts.values() if not expert.is_delegate)
