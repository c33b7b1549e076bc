"""Ollama on this machine or another: no key, no files."""

from perstack.llm.providers.profile import ProviderProfile
from perstack.llm.providers.tool_limits import ToolLimits

OLLAMA = ProviderProfile(
    name="ollama",
    wire_format="ollama_chat",
    litellm_prefix="ollama_chat",
    default_base_url="http://localhost:11434",
    base_url_variable="OLLAMA_BASE_URL",
    appended_path="/api",
    # It refuses the request when a model that cannot think is asked to.
    default_reasoning_budget="none",
    # What it does not know of a schema, the model is not shown.
    tool_limits=ToolLimits(has_references=False),
)
