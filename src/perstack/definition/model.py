"""The validated content of `perstack.toml`, an immutable snapshot for every run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, field_validator, model_validator

from perstack.definition.budget import Budget, JobBudget
from perstack.definition.diagnostics import Diagnostic, raise_field_errors, validated_by
from perstack.definition.expert_tool import ExpertTool
from perstack.definition.field_checks import (
    check_command,
    check_domain,
    check_headers,
    check_object_schema,
    check_provider_setting,
    check_remote_server,
)
from perstack.definition.form_schema import check_answer_schema
from perstack.definition.model_facts import ModelFacts
from perstack.definition.provider_tools import (
    ProviderSkill,
    ProviderTools,
    check_tool_options,
)
from perstack.definition.references import (
    BASE_SKILL,
    DEFAULT_MAX_TOOL_RESULT_CHARACTERS,
    DEFAULT_TOOL_NAMES,
    MIN_TOOL_RESULT_CHARACTERS,
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
from perstack.definition.tests import MAX_TESTS, ExpertTest
from perstack.definition.verification import (
    DEFAULT_MAX_ATTEMPTS,
    Verifications,
)
from perstack.models import FrozenModel, NaturalInt, PositiveInt

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
    "litellm",
    "scripted",
]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high"]
ReasoningBudget = ReasoningEffort | Annotated[int, Field(strict=True, ge=0)]
ModelTier = Literal["low", "middle", "high"]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Description = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Rule = Annotated[str, StringConstraints(max_length=2048)]
DomainPattern = Annotated[str, StringConstraints(max_length=255), validated_by(check_domain)]
Headers = Annotated[dict[str, str], validated_by(check_headers)]
ToolResultLimit = Annotated[int, Field(strict=True, ge=MIN_TOOL_RESULT_CHARACTERS)]
StrictFlag = Annotated[bool, Field(strict=True)]

DEFAULT_MAX_STEPS = 100
DEFAULT_MAX_RETRIES = 5
DEFAULT_TIMEOUT_MS = 300_000

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
    "amazon-bedrock": frozenset({"region", "baseUrl", "headers"}),
    "google-vertex": frozenset({"project", "location", "baseUrl", "headers"}),
    "litellm": frozenset({"baseUrl", "headers"}),
    "scripted": frozenset({"script"}),
}


class ProviderSetting(FrozenModel):
    """`[provider.setting]`: which keys are allowed depends on the provider."""

    base_url: str | None = Field(default=None, description="URL to use instead of the usual one.")
    headers: Headers = Field(
        default_factory=dict, description="Sent with each request to the provider."
    )
    organization: str | None = Field(default=None, description="openai: organization.")
    project: str | None = Field(default=None, description="openai, google-vertex: project.")
    name: str | None = Field(default=None, description="openai: name of the provider in logs.")
    resource_name: str | None = Field(default=None, description="azure-openai: resource.")
    api_version: str | None = Field(default=None, description="azure-openai: API version.")
    use_deployment_based_urls: StrictFlag | None = Field(
        default=None, description="azure-openai: put the deployment into the URL."
    )
    region: str | None = Field(default=None, description="amazon-bedrock: region.")
    location: str | None = Field(default=None, description="google-vertex: location.")
    script: str | None = Field(
        default=None,
        description="scripted: path of the script of replies, relative to perstack.toml.",
    )


class Provider(FrozenModel):
    """`[provider]`: who generates, and how to reach them."""

    provider_name: ProviderName = Field(description="Who serves the model.")
    setting: ProviderSetting = Field(
        default_factory=ProviderSetting, description="How to reach the provider."
    )

    @model_validator(mode="after")
    def _validate_setting(self) -> Self:
        allowed = PROVIDER_SETTINGS[self.provider_name]
        present = self.setting.model_dump(exclude_unset=True)
        raise_field_errors(
            check_provider_setting(self.provider_name, allowed, present, self.setting.base_url)
        )
        return self


class Fallback(FrozenModel):
    """One `[[fallbacks]]` table: a model that stands in while another cannot be reached."""

    model: ModelName = Field(description="The model to go on with.")
    provider: Provider | None = Field(
        default=None, description="Who serves it, if it is not the provider of the file."
    )


class InteractiveTool(FrozenModel):
    """A tool whose call stops the run until a person or an application answers."""

    description: Description | None = Field(
        default=None, description="What the tool is for, as the model reads it."
    )
    input_json_schema: Annotated[
        str, StringConstraints(max_length=20_480), validated_by(check_object_schema)
    ] = Field(
        default='{"type":"object"}', description="JSON Schema of the arguments, as a JSON string."
    )

    answer_json_schema: (
        Annotated[str, StringConstraints(max_length=20_480), validated_by(check_answer_schema)]
        | None
    ) = Field(
        default=None,
        description="JSON Schema of the answer, as a JSON string: an object of plain values, "
        "choices and lists of choices; else one text.",
    )


class SkillCommon(FrozenModel):
    """What every kind of skill has."""

    description: Description | None = Field(default=None, description="What the skill is for.")
    rule: Rule | None = Field(
        default=None, description="How to use the skill; added to the expert's system prompt."
    )


class ToolFilter(SkillCommon):
    """A skill backed by a server, whose tools can be narrowed: `omit` first, then `pick`."""

    pick: tuple[ToolName, ...] = Field(
        default=(), max_length=255, description="The only tools to show; all if empty."
    )
    omit: tuple[ToolName, ...] = Field(default=(), max_length=255, description="Tools to hide.")
    allowed_domains: tuple[DomainPattern, ...] = Field(
        default=(), description="Hosts the skill may reach: example.com or *.example.com."
    )
    required_env: tuple[EnvironmentName, ...] = Field(
        default=(),
        max_length=255,
        description="Environment variables that must be set; only these reach the skill.",
    )
    start_timeout: PositiveInt | None = Field(
        default=None,
        description="Milliseconds that the server may take to start and tell its tools, a download "
        "included; 60000 if left out, 300000 for commands such as npx and uvx that may download.",
    )


class McpStdioSkill(ToolFilter):
    """An MCP server that is started as a child process and spoken to over its stdin and stdout."""

    type: Literal["mcpStdioSkill"] = Field(description="A local MCP server.")
    command: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="What to start: npx, uvx, python, node or any program."
    )
    package_name: PackageSpec | None = Field(
        default=None, description="Package that npx or uvx runs; instead of args."
    )
    args: tuple[str, ...] = Field(
        default=(), description="Arguments of the command; instead of packageName."
    )
    lazy_init: StrictFlag = Field(
        default=False,
        description="Start the server at the first call of one of its tools, which are listed once "
        "and kept.",
    )
    scope: Literal["job", "engine"] = Field(
        default="job",
        description="Who shares the process: the runs of a job, or all jobs of an engine, for "
        "servers that keep nothing between calls.",
    )

    @property
    def package_args(self) -> tuple[str, ...]:
        """The package, or the arguments that may name one."""
        return (self.package_name,) if self.package_name is not None else self.args

    @property
    def is_built_in(self) -> bool:
        """Whether this is the base skill of this version, which needs no process."""
        return [arg for arg in self.package_args if arg not in {"-y", "--yes"}] == [BASE_SKILL]

    @model_validator(mode="after")
    def _validate_command(self) -> Self:
        raise_field_errors(check_command(self.command, self.package_name, self.args))
        return self


class McpSseSkill(ToolFilter):
    """An MCP server reached over HTTP: Streamable HTTP first, the older SSE as a fallback."""

    type: Literal["mcpSseSkill"] = Field(description="A remote MCP server.")
    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=2048)] = Field(
        description="URL of the server: HTTPS and public, unless allowPrivate is set."
    )
    headers: Headers = Field(
        default_factory=dict,
        description="Sent with each request; ${NAME} takes a requiredEnv value.",
    )
    allow_private: StrictFlag = Field(
        default=False, description="Allow an endpoint on this machine or in a private network."
    )

    @model_validator(mode="after")
    def _validate_endpoint(self) -> Self:
        errors = check_remote_server(
            self.endpoint, self.headers, self.required_env, allow_private=self.allow_private
        )
        raise_field_errors(errors)
        return self


class InteractiveSkill(SkillCommon):
    """Tools that a person or an application answers; only for runs that nobody delegated."""

    type: Literal["interactiveSkill"] = Field(description="Questions to the user.")
    tools: dict[ToolName, InteractiveTool] = Field(
        max_length=255, description="The questions that can be asked, by tool name."
    )


Skill = Annotated[McpStdioSkill | McpSseSkill | InteractiveSkill, Field(discriminator="type")]


def base_skill() -> McpStdioSkill:
    """The built-in base skill as every expert has it."""
    return McpStdioSkill(
        type="mcpStdioSkill", description="Base skill", command="npx", package_name=BASE_SKILL
    )


class Expert(FrozenModel):
    """One `[experts."<key>"]` table: `key` is the table's key, the other fields its content."""

    key: ExpertKey = Field(exclude=True)
    version: Version = Field(default="1.0.0", description="Semantic version of the expert.")
    min_runtime_version: RuntimeVersion | None = Field(
        default=None, description="Oldest version of perstack that the expert works with."
    )
    description: Description | None = Field(
        default=None, description="What the expert does and what to tell it; seen by its callers."
    )
    instruction: Annotated[str, StringConstraints(min_length=1, max_length=20_480)] = Field(
        description="What the expert is to do and to know; seen by the expert only."
    )
    skills: dict[SkillName, Skill] = Field(
        default_factory=dict,
        max_length=255,
        validate_default=True,
        description="The expert's skills by name; @perstack/base is always there.",
    )
    delegates: tuple[ExpertKey, ...] = Field(
        default=(), max_length=255, description="Experts that this one may call."
    )
    tags: tuple[Tag, ...] = Field(default=(), max_length=8, description="Labels of the expert.")
    default_model_tier: ModelTier | None = Field(
        default=None, description="How strong a model the expert needs."
    )
    budget: Budget | None = Field(
        default=None, description="What each run of the expert may use, its delegates included."
    )
    tool: ExpertTool = Field(
        default_factory=ExpertTool, description="How the expert is shown to its callers."
    )
    verifications: Verifications = Field(
        default=(),
        description="What is checked whenever the expert wants to complete.",
    )
    max_verification_attempts: PositiveInt = Field(
        default=DEFAULT_MAX_ATTEMPTS,
        description="Attempts to complete that may fail before the expert is stopped.",
    )
    tests: tuple[ExpertTest, ...] = Field(
        default=(), max_length=MAX_TESTS, description="Queries with which perstack test tries it."
    )
    provider_tools: tuple[str, ...] = Field(
        default=(), description="Tools that the provider runs itself, such as webSearch."
    )
    provider_skills: tuple[ProviderSkill, ...] = Field(
        default=(), description="Skills that the provider's model works with."
    )
    provider_tool_options: Annotated[dict[str, Any], validated_by(check_tool_options)] = Field(
        default_factory=dict, description="Options of the provider's tools, by tool."
    )

    @field_validator("skills")
    @classmethod
    def _add_base_skill(cls, skills: dict[str, Skill]) -> dict[str, Skill]:
        declared = skills.get(BASE_SKILL)
        if declared is not None and not isinstance(declared, McpStdioSkill):
            hint = 'it has type = "mcpStdioSkill"; choose another name for yours'
            raise_field_errors([Diagnostic("is the built-in skill", hint, key_path=(BASE_SKILL,))])
        return {BASE_SKILL: base_skill(), **skills}

    @property
    def name(self) -> str:
        """The name other experts delegate to."""
        return self.key

    @property
    def base_tools(self) -> frozenset[str]:
        """The tools of the base skill that the expert is shown, by the definition alone."""
        skill = self.skills.get(BASE_SKILL)
        if not isinstance(skill, McpStdioSkill):
            return frozenset()
        return frozenset(skill.pick or DEFAULT_TOOL_NAMES).difference(skill.omit)

    @property
    def asked_of_provider(self) -> ProviderTools:
        """The tools and skills that the provider is to run; skills need a tool to run."""
        needed = ("codeExecution",) if self.provider_skills else ()
        names = tuple(dict.fromkeys((*self.provider_tools, *needed)))
        return ProviderTools(names, self.provider_tool_options, self.provider_skills)

    @property
    def is_delegate(self) -> bool:
        """Whether this expert belongs to a coordinator (`@coordinator/name`)."""
        return is_delegate_name(self.key)


class Definitions(FrozenModel):
    """A whole `perstack.toml`: an immutable snapshot. Running jobs keep the one they began with."""

    path: Path | None = Field(default=None, exclude=True)
    model: str | None = Field(
        default=None, min_length=1, description="Model of every expert that has no tier."
    )
    provider: Provider = Field(
        default_factory=lambda: Provider(provider_name="anthropic"),
        description="Who serves the models.",
    )
    fallbacks: tuple[Fallback, ...] = Field(
        default=(),
        max_length=16,
        description="Models to go on with, in order, when a provider fails again and again.",
    )
    tiers: dict[ModelTier, ModelName] = Field(
        default_factory=dict[ModelTier, ModelName],
        description="Models of the tiers instead of the provider's.",
    )
    models: dict[ModelName, ModelFacts] = Field(
        default_factory=dict[ModelName, ModelFacts],
        description="Facts about models that perstack does not know, or that are not so for you.",
    )
    compact_at: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = Field(
        default=None,
        description="Part of the context window, from 0 to 1, from which on the beginning of a "
        "conversation is replaced by a summary; never without it.",
    )
    budget: JobBudget = Field(
        default_factory=JobBudget, description="What a request may use, over all runs."
    )
    reasoning_budget: ReasoningBudget = Field(
        default="low", description="How much to think before answering: an effort or tokens."
    )
    max_steps: PositiveInt = Field(
        default=DEFAULT_MAX_STEPS, description="Steps that a job may take."
    )
    max_retries: NaturalInt = Field(
        default=DEFAULT_MAX_RETRIES, description="Retries of a generation that failed."
    )
    timeout: PositiveInt = Field(
        default=DEFAULT_TIMEOUT_MS, description="Milliseconds for one generation."
    )
    max_tool_result_characters: ToolResultLimit = Field(
        default=DEFAULT_MAX_TOOL_RESULT_CHARACTERS,
        description="Characters of a tool's result that the model is shown; it can read the rest.",
    )
    env_path: tuple[str, ...] = Field(
        default=(".env", ".env.local"), description="Files with environment variables."
    )
    experts: dict[ExpertKey, Expert] = Field(
        default_factory=dict, description="The experts, by name or @coordinator/name."
    )
    perstack_api_base_url: str = Field(
        default="https://api.perstack.ai", description="Registry of experts."
    )
    perstack_base_skill_command: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Command that serves the base skill instead of the built-in one.",
    )

    @field_validator("perstack_api_base_url")
    @classmethod
    def _validate_perstack_api_base_url(cls, url: str) -> str:
        if not _is_https(url):
            raise_field_errors([Diagnostic("must be a URL with HTTPS")])
        return url

    def coordinators(self) -> tuple[Expert, ...]:
        """The experts whose names are not `@coordinator/delegate`, in file order."""
        return tuple(expert for expert in self.experts.values() if not expert.is_delegate)


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model of which provider generates, and how.

    `fallbacks` stand in for it, in order, when a provider fails again and again.
    """

    provider: Provider
    model: str
    reasoning_budget: ReasoningBudget = "low"
    timeout_seconds: float = 300.0
    facts: ModelFacts = field(default_factory=ModelFacts)
    fallbacks: tuple["ModelChoice", ...] = ()
