"""Every other model, as litellm names it: `model = "groq/llama-3.3-70b-versatile"`."""

import re

from perstack.llm.providers.profile import ProviderProfile


def key_variable(model: str) -> str:
    """The variable of the provider that a model's name begins with, such as `GROQ_API_KEY`."""
    return re.sub(r"\W", "_", model.partition("/")[0]).upper() + "_API_KEY"


LITELLM = ProviderProfile(
    name="litellm",
    litellm_prefix="",
    # litellm knows the address of each provider.
    default_base_url="",
    base_url_variable="LITELLM_BASE_URL",
    model_key_variable=key_variable,
    # Which options a model takes, only its user knows.
    thinking_models="",
)
