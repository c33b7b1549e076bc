"""Which model generates for an expert: the caller's, its tier's, the file's, the middle tier's."""

import re
from dataclasses import dataclass, field, replace

from perstack.definition.model import (
    Definitions,
    Expert,
    Fallback,
    ModelChoice,
    ModelTier,
    Provider,
    ReasoningBudget,
)
from perstack.definition.model_facts import ModelFacts
from perstack.definition.provider_tools import has_skills
from perstack.errors import ConfigError
from perstack.llm.catalog import model_facts, tier_model
from perstack.llm.providers.profile import ProviderProfile
from perstack.llm.providers.registry import PROVIDER_PROFILES


@dataclass(frozen=True, slots=True)
class ModelSelector:
    """The choices of one set of definitions and one caller.

    Attributes:
        provider: Who generates; with the file's settings only where the file means this provider.
        model_override: The caller's model; beats every tier.
        file_model: `model` of the file, if it belongs to this provider.
        tiers: Models of the file for tiers, if they belong to this provider.
        facts: What the file says of models.
        is_budget_set: Whether the file or the caller sets the reasoning budget.
        fallbacks: The models that stand in for any other.
    """

    provider: Provider
    model_override: str | None
    file_model: str | None
    reasoning_budget: ReasoningBudget
    is_budget_set: bool
    timeout_seconds: float
    tiers: dict[ModelTier, str] = field(default_factory=dict[ModelTier, str])
    facts: dict[str, ModelFacts] = field(default_factory=dict[str, ModelFacts])
    fallbacks: tuple[Fallback, ...] = ()

    def choose(self, expert: Expert) -> ModelChoice:
        """The model for an expert.

        Raises:
            ConfigError: Neither the caller, the expert, the file nor the provider names one, or
                a provider lacks a tool of the expert.
        """
        first = self._choice(expert, self.provider, self._model_name(expert))
        fallbacks = tuple(
            self._choice(expert, each.provider or self.provider, each.model)
            for each in self.fallbacks
        )
        return replace(first, fallbacks=fallbacks) if fallbacks else first

    def _choice(self, expert: Expert, provider: Provider, model: str) -> ModelChoice:
        profile = PROVIDER_PROFILES.get(provider.provider_name)
        if profile is not None:
            _check_provider_tools(expert, profile.of_model(model))
        known = model_facts(provider.provider_name, model)
        return ModelChoice(
            provider=provider,
            model=model,
            reasoning_budget=self._reasoning_budget_of(profile, model),
            timeout_seconds=self.timeout_seconds,
            facts=self.facts.get(model, ModelFacts()).over(known),
        )

    def _reasoning_budget_of(self, profile: ProviderProfile | None, model: str) -> ReasoningBudget:
        if self.is_budget_set or profile is None:
            return self.reasoning_budget
        if not re.fullmatch(profile.of_model(model).thinking_models, model):
            return "none"
        return profile.default_reasoning_budget or self.reasoning_budget

    def _model_name(self, expert: Expert) -> str:
        name = self.provider.provider_name
        tier = expert.default_model_tier
        model = (
            self.model_override
            or (tier and tier_model(name, tier, self.tiers))
            or self.file_model
            or tier_model(name, "middle", self.tiers)
        )
        if not model:
            raise ConfigError(
                f"no model is set for expert {expert.key!r}, and {name} has no default model.",
                hint='Write `model = "…"` at the top of perstack.toml or pass --model.',
            )
        return model


def _check_provider_tools(expert: Expert, profile: ProviderProfile) -> None:
    """A file is checked with its own provider, which a caller may have replaced."""
    lacking = [tool for tool in expert.provider_tools if tool not in profile.provider_tools]
    if expert.provider_skills and not has_skills(profile.name):
        lacking.append("providerSkills")
    if lacking:
        raise ConfigError(
            f"{profile.name} has no {', '.join(lacking)}, which expert {expert.key!r} asks for.",
            hint="Use a provider and a model that have it, or ask for something else.",
        )


def create_model_selector(
    definitions: Definitions,
    *,
    provider: Provider,
    model: str | None = None,
    reasoning_budget: ReasoningBudget | None = None,
    timeout_ms: int | None = None,
    has_fallbacks: bool = True,
) -> ModelSelector:
    """The choices that follow from a file and what the caller wants otherwise."""
    is_file_provider = provider.provider_name == definitions.provider.provider_name
    effective_budget = (
        definitions.reasoning_budget if reasoning_budget is None else reasoning_budget
    )
    is_budget_set = (
        reasoning_budget is not None or "reasoning_budget" in definitions.model_fields_set
    )
    return ModelSelector(
        provider=provider,
        model_override=model,
        file_model=definitions.model if is_file_provider else None,
        reasoning_budget=effective_budget,
        is_budget_set=is_budget_set,
        timeout_seconds=(definitions.timeout if timeout_ms is None else timeout_ms) / 1000,
        tiers=definitions.tiers if is_file_provider else {},
        facts=definitions.models,
        fallbacks=definitions.fallbacks if has_fallbacks else (),
    )
