"""A reasoning budget in each provider's terms."""

from typing import Any

from perstack.definition.model import ProviderName, ReasoningBudget
from perstack.llm.catalog import model_facts

_TOKENS: dict[str, int] = {"none": 0, "minimal": 1024, "low": 2048, "medium": 5000, "high": 10_000}
_SMALLEST_ANTHROPIC_BUDGET = 1024
# Left for the answer itself, when a model's whole output is smaller than the budget.
_SMALLEST_ANSWER = 1024


def reasoning_options(
    budget: ReasoningBudget, provider: ProviderName, model: str
) -> dict[str, Any]:
    """The options of a call; none where thinking is off or the provider has no switch for it."""
    tokens = _TOKENS[budget] if isinstance(budget, str) else budget
    if tokens == 0:
        return {}
    match provider:
        case "anthropic":
            return {"thinking": {"type": "enabled", "budget_tokens": _budget(tokens, model)}}
        case "openai":
            return {"reasoning_effort": effort(tokens)}
        case "ollama":
            return {"reasoning_effort": effort(tokens)}
        case _:
            return {}


def effort(tokens: int) -> str:
    """The effort that a number of tokens stands for."""
    if tokens <= _TOKENS["low"]:
        return "low"
    return "medium" if tokens <= _TOKENS["medium"] else "high"


def _budget(tokens: int, model: str) -> int:
    facts = model_facts("anthropic", model)
    largest = facts.max_output - _SMALLEST_ANSWER if facts else tokens
    return max(_SMALLEST_ANTHROPIC_BUDGET, min(tokens, largest))
