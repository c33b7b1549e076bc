"""Model sizes and the models of tiers, from `models.json`."""

import re
from functools import cache
from importlib.resources import files

from perstack.definition.model import ModelTier, ProviderName
from perstack.models import FrozenModel

TIER_FALLBACKS: dict[ModelTier, tuple[ModelTier, ...]] = {
    "high": ("high", "middle", "low"),
    "middle": ("middle", "low", "high"),
    "low": ("low", "middle", "high"),
}


class ModelLimits(FrozenModel):
    """Sizes in tokens."""

    context_window: int
    max_output: int


class ProviderModels(FrozenModel):
    """One provider's tiers and the models whose sizes are known."""

    tiers: dict[ModelTier, str]
    models: dict[str, ModelLimits]


def model_limits(provider: ProviderName, model: str) -> ModelLimits | None:
    """The sizes of a model, or of the family that a snapshot belongs to, if the catalog has it."""
    provider_models = _catalog().get(provider)
    if provider_models is None:
        return None
    family = _SNAPSHOT.sub("", model)
    return provider_models.models.get(model) or provider_models.models.get(family)


_SNAPSHOT = re.compile(r"[-@](\d{8}|\d{4}-\d{2}-\d{2}|latest|default)$")


def tier_model(provider: ProviderName, tier: ModelTier) -> str | None:
    """The provider's model for a tier, or for the nearest tier that it has."""
    provider_models = _catalog().get(provider)
    if provider_models is None:
        return None
    return next(
        (
            provider_models.tiers[near]
            for near in TIER_FALLBACKS[tier]
            if near in provider_models.tiers
        ),
        None,
    )


@cache
def _catalog() -> dict[str, ProviderModels]:
    text = files("perstack.llm").joinpath("models.json").read_text(encoding="utf-8")
    return _Catalog.model_validate_json(f'{{"providers":{text}}}').providers


class _Catalog(FrozenModel):
    providers: dict[str, ProviderModels]
