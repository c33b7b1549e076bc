"""The model that a run uses."""

from dataclasses import dataclass

from perstack.definition.model import Provider, ReasoningBudget


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model of which provider generates, and how."""

    provider: Provider
    model: str
    reasoning_budget: ReasoningBudget = "low"
    timeout_seconds: float = 300.0
