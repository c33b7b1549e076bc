"""Facts about models and the models of tiers, as the package ships them.

`models.json` is written by hand and wins over `model_facts/`, which `scripts/update-model-facts`
writes.
"""

import re
from functools import cache
from importlib.resources import files

from pydantic import Field, TypeAdapter

from perstack.definition.model import ModelTier, ProviderName
from perstack.definition.model_facts import ModelFacts
from perstack.models import FrozenModel

TIER_FALLBACKS: dict[ModelTier, tuple[ModelTier, ...]] = {
    "high": ("high", "middle", "low"),
    "middle": ("middle", "low", "high"),
    "low": ("low", "middle", "high"),
}

ANY_MODEL = "*"
"""The entry for models of a provider that have none of their own."""


class ProviderModels(FrozenModel):
    """One provider's tiers and the models of which more is known than `model_facts/` says."""

    tiers: dict[ModelTier, str] = Field(default_factory=dict[ModelTier, str])
    models: dict[str, ModelFacts] = Field(default_factory=dict[str, ModelFacts])


def model_facts(provider: ProviderName, model: str) -> ModelFacts:
    """What is known of a model, or of the family that a snapshot belongs to."""
    written = _catalog().get(provider, ProviderModels()).models
    generated = _generated_facts(provider)
    facts = ModelFacts()
    for name in (model, _SNAPSHOT.sub("", model), ANY_MODEL):
        for source in (written, generated):
            if name in source:
                facts = facts.over(source[name])
    return facts


_SNAPSHOT = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2}|latest|default)$")


def tier_model(
    provider: ProviderName, tier: ModelTier, own: dict[ModelTier, str] | None = None
) -> str | None:
    """The provider's model for a tier, or for the nearest tier that it has.

    `own` are models that the user has chosen for tiers.
    """
    tiers = {**_catalog().get(provider, ProviderModels()).tiers, **(own or {})}
    return next((tiers[near] for near in TIER_FALLBACKS[tier] if near in tiers), None)


_CATALOG = TypeAdapter(dict[str, ProviderModels])
_FACTS = TypeAdapter(dict[str, ModelFacts])


@cache
def _catalog() -> dict[str, ProviderModels]:
    return _CATALOG.validate_json(files("perstack.llm").joinpath("models.json").read_bytes())


@cache
def _generated_facts(provider: ProviderName) -> dict[str, ModelFacts]:
    file = files("perstack.llm").joinpath("model_facts", f"{provider}.json")
    return _FACTS.validate_json(file.read_bytes()) if file.is_file() else {}
