"""DeepSeek: Chat Completions, with a model of its own for thinking."""

from perstack.llm.providers.profile import ProviderProfile, no_reasoning_option
from perstack.llm.providers.tool_limits import ToolLimits

DEEPSEEK = ProviderProfile(
    name="deepseek",
    wire_format="chat_completions",
    litellm_prefix="deepseek",
    default_base_url="https://api.deepseek.com",
    base_url_variable="DEEPSEEK_BASE_URL",
    key_variable="DEEPSEEK_API_KEY",
    reasoning=no_reasoning_option,
    returns_reasoning=True,
    tool_limits=ToolLimits(max_tools=128),
)
