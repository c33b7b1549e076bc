"""Amazon Bedrock: models of many makers in its Converse format, by AWS credentials."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perstack.core.media import MediaRules
from perstack.definition.model import ProviderSetting
from perstack.llm.providers.anthropic import thinking_option
from perstack.llm.providers.aws_credentials import (
    KEY_ID_VARIABLE,
    OTHER_REGION_VARIABLE,
    REGION_VARIABLE,
    SECRET_VARIABLE,
    aws_region,
)
from perstack.llm.providers.profile import (
    ProviderProfile,
    effort_option,
    no_reasoning_option,
    reasoning_effort,
)
from perstack.llm.providers.tool_limits import COMMON_LIMITS, ToolLimits

API_KEY_VARIABLE = "AWS_BEARER_TOKEN_BEDROCK"
_ANY_REGION = r"(.*[./])?"
"""Before the name of a model: an inference profile's region, or an ARN up to it."""


def runtime_url(setting: ProviderSetting, environment: Mapping[str, str]) -> str:
    """The address of a region.

    Raises:
        ConfigError: No region is named, or it cannot be one.
    """
    region = aws_region(setting, environment)
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://bedrock-runtime.{region}.{domain}"


def required_variables(setting: ProviderSetting, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The key, or the two of AWS, and the region unless it is set."""
    has_key = bool(environment.get(API_KEY_VARIABLE))
    names = [API_KEY_VARIABLE] if has_key else [KEY_ID_VARIABLE, SECRET_VARIABLE]
    if not setting.region:
        is_other = not environment.get(REGION_VARIABLE) and environment.get(OTHER_REGION_VARIABLE)
        names.append(OTHER_REGION_VARIABLE if is_other else REGION_VARIABLE)
    return tuple(names)


def claude_thinking_option(tokens: int, model: str) -> dict[str, Any]:
    """Thinking of a model of Anthropic, whose own name is the end of its name here."""
    own_name = model[model.index("claude-") :]
    return thinking_option(tokens, re.sub(r"-v\d+(:\d+)?$", "", own_name))


def nova_thinking_option(tokens: int, _model: str) -> dict[str, Any]:
    effort = reasoning_effort(tokens)
    return {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort}}


_OTHER = ProviderProfile(
    name="amazon-bedrock",
    wire_format="bedrock_converse",
    litellm_prefix="bedrock",
    default_base_url=runtime_url,
    base_url_variable="AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
    model_key_variable=lambda _model: API_KEY_VARIABLE,
    required_variables=required_variables,
    authorization="aws",
    reasoning=no_reasoning_option,
    thinking_models="",
    accepts_files=True,
    media_rules=MediaRules(),
    tool_limits=ToolLimits(has_references=False, has_plain_top=True),
)
_CLAUDE = replace(
    _OTHER,
    reasoning=claude_thinking_option,
    thinking_models=".*",
    tool_limits=COMMON_LIMITS,
    accepts_media_in_results=True,
    has_signed_thinking=True,
    has_cache_breakpoints=True,
)
_NOVA_2 = replace(_OTHER, reasoning=nova_thinking_option)
_GPT_OSS = replace(_OTHER, reasoning=effort_option, thinking_models=".*")

AMAZON_BEDROCK = replace(
    _OTHER,
    families=(
        # Earlier ones neither think nor cache.
        (rf"{_ANY_REGION}anthropic\.claude-(3-7|mythos|[a-z]+-\d).*", _CLAUDE),
        (rf"{_ANY_REGION}amazon\.nova-2-.*", _NOVA_2),
        (rf"{_ANY_REGION}openai\.gpt-oss-.*", _GPT_OSS),
    ),
)
