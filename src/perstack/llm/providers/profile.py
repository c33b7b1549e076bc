"""What differs between providers, as data."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from perstack.core.media import MEBIBYTE, PDF_MIME_TYPE, MediaRules
from perstack.definition.model import ProviderName, ProviderSetting, ReasoningBudget
from perstack.definition.provider_tools import ProviderTools
from perstack.llm.providers.tool_limits import COMMON_LIMITS, ToolLimits

COMMON_MEDIA = MediaRules(max_image_characters=20 * MEBIBYTE, file_types=re.escape(PDF_MIME_TYPE))
"""What the base skill reads."""

BUDGET_TOKENS: dict[str, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 2048,
    "medium": 5000,
    "high": 10_000,
}

Headers = Callable[[ProviderSetting, Mapping[str, str]], dict[str, str]]
"""The headers that follow from the settings of the file and the environment."""

Reasoning = Callable[[int, str], dict[str, Any]]
"""The options of a call that switch thinking on, for a number of tokens and a model."""


def reasoning_effort(tokens: int) -> str:
    """The effort for a number of tokens."""
    if tokens <= BUDGET_TOKENS["low"]:
        return "low"
    return "medium" if tokens <= BUDGET_TOKENS["medium"] else "high"


def effort_option(tokens: int, _model: str) -> dict[str, Any]:
    return {"reasoning_effort": reasoning_effort(tokens)}


def no_reasoning_option(_tokens: int, _model: str) -> dict[str, Any]:
    return {}


def no_headers(_setting: ProviderSetting, _environment: Mapping[str, str]) -> dict[str, str]:
    return {}


WireName = Literal[
    "anthropic_messages",
    "anthropic_vertex",
    "bedrock_converse",
    "chat_completions",
    "gemini",
    "ollama_chat",
    "responses",
]

Authorization = Literal["key", "google", "aws"]
"""By a key, by access tokens of Google Cloud, or by a signature of AWS unless there is a key."""

RequiredVariables = Callable[[ProviderSetting, Mapping[str, str]], tuple[str, ...]]
"""The variables that must have a value, with the settings of the file in this environment."""

BaseUrl = Callable[[ProviderSetting, Mapping[str, str]], str]
"""The address that follows from the settings of the file and the environment."""

ModelPath = Callable[[str, ProviderSetting, Mapping[str, str]], str]
"""A path with its query, for a model, the settings of the file and the environment."""


def plain_chat_path(_model: str, _setting: ProviderSetting, _environment: Mapping[str, str]) -> str:
    return "/chat/completions"


def plain_responses_path(
    _model: str, _setting: ProviderSetting, _environment: Mapping[str, str]
) -> str:
    return "/responses"


ProviderTool = Callable[[ProviderTools, str], dict[str, Any]]
"""A tool as the provider's format has it, for all that an expert asks of it and a model."""


def no_tool_headers(_tools: ProviderTools) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderProfile:
    """The constants of a provider.

    Attributes:
        name: Its name in `perstack.toml`.
        wire_format: The format in which it is spoken to directly; `None` where litellm does that.
        families: Profiles of the models that differ, by a pattern of their names; the first counts.
        litellm_prefix: litellm's name of the provider; empty where models have it already.
        default_base_url: Passed on every call, so that no variable of the process redirects one; a
            function where it follows from settings.
        base_url_variable: Environment variable that replaces the default address.
        key_variable: Environment variable of the key; `None` where no key is needed.
        required_variables: The variables without which nothing can be asked, where they are others
            than `key_variable`.
        authorization: How requests are authorized.
        model_key_variable: The environment variable of the key of a model, where that differs
            between the models; without a value the call may be authorized in another way.
        key_header: The header of the key; in `Authorization` it is a bearer token.
        chat_path: The path of Chat Completions, for a model.
        responses_path: The path of Responses, for a model.
        appended_path: Path that litellm appends itself; removed from an address that ends with it.
        default_reasoning_budget: Replaces the general default.
        reasoning: Options that switch thinking on.
        thinking_models: Pattern of the models that are known to take these options; others get
            them where the user asks for thinking.
        headers: Headers beside those of the file.
        accepts_files: Whether messages can hold files; else the model reads that there is one.
        media_rules: Which images and files the provider takes; others become text or a note.
        accepts_image_urls: Whether the provider fetches images; else the model reads the URL.
        accepts_file_urls: Whether the provider fetches files.
        accepts_media_in_results: Whether a tool result can hold images and files.
        has_signed_thinking: Whether thinking is returned to the provider with its signature.
        returns_reasoning: Whether unsigned thinking of a turn with tool calls is returned.
        has_cache_breakpoints: Whether prefixes are cached where messages say so.
        requires_max_tokens: Whether each call must limit its output.
        tool_limits: What the provider takes of the tools that it is shown.
        provider_tools: The tools that the provider calls itself, by their names in the file.
        provider_tool_headers: The headers that such tools and skills need.
        mixed_tool_options: Options of a call with such tools and others.
    """

    name: ProviderName
    wire_format: WireName | None = None
    families: tuple[tuple[str, "ProviderProfile"], ...] = ()
    litellm_prefix: str
    default_base_url: str | BaseUrl
    base_url_variable: str
    key_variable: str | None = None
    required_variables: RequiredVariables | None = None
    authorization: Authorization = "key"
    model_key_variable: Callable[[str], str] | None = None
    key_header: str = "Authorization"
    chat_path: ModelPath = plain_chat_path
    responses_path: ModelPath = plain_responses_path
    appended_path: str = ""
    default_reasoning_budget: ReasoningBudget | None = None
    reasoning: Reasoning = effort_option
    thinking_models: str = ".*"
    headers: Headers = no_headers
    accepts_files: bool = False
    media_rules: MediaRules = COMMON_MEDIA
    accepts_image_urls: bool = False
    accepts_file_urls: bool = False
    accepts_media_in_results: bool = False
    has_signed_thinking: bool = False
    returns_reasoning: bool = False
    has_cache_breakpoints: bool = False
    requires_max_tokens: bool = False
    tool_limits: ToolLimits = COMMON_LIMITS
    provider_tools: Mapping[str, ProviderTool] = field(default_factory=dict[str, ProviderTool])
    provider_tool_headers: Callable[[ProviderTools], dict[str, str]] = no_tool_headers
    mixed_tool_options: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def of_model(self, model: str) -> "ProviderProfile":
        """The profile of a model: its family's, if it belongs to one."""
        return next(
            (family for pattern, family in self.families if re.fullmatch(pattern, model)), self
        )

    def wire_format_for(self, tools: ProviderTools) -> WireName | None:
        """The format in which an expert is asked.

        Chat Completions have no tools that the provider calls itself; Responses have.
        """
        is_chat = self.wire_format == "chat_completions"
        return "responses" if is_chat and tools else self.wire_format

    def provider_tool_bodies(self, tools: ProviderTools, model: str) -> list[dict[str, Any]]:
        """The tools that the provider calls itself, as its format has them."""
        return [self.provider_tools[name](tools, model) for name in tools.names]

    def variables(
        self, setting: ProviderSetting, environment: Mapping[str, str]
    ) -> tuple[str, ...]:
        """The variables without which nothing can be asked, whether they are set or not."""
        if self.required_variables is not None:
            return self.required_variables(setting, environment)
        return (self.key_variable,) if self.key_variable else ()

    def reasoning_options(self, budget: ReasoningBudget, model: str) -> dict[str, Any]:
        """The options of a call; none where thinking is off."""
        tokens = BUDGET_TOKENS[budget] if isinstance(budget, str) else budget
        return self.reasoning(tokens, model) if tokens else {}
