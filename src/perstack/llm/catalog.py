"""What is known about models: their sizes, and which one a tier means. Facts: `models.json`."""

from functools import cache
from importlib.resources import files

from perstack.definition.model import ModelTier, ProviderName
from perstack.definition.record import Record

NEAREST_TIERS: dict[ModelTier, tuple[ModelTier, ...]] = {
    "high": ("high", "middle", "low"),
    "middle": ("middle", "low", "high"),
    "low": ("low", "middle", "high"),
}


class ModelFacts(Record):
    """Sizes in tokens."""

    context_window: int
    max_output: int


class ProviderModels(Record):
    """One provider's tiers and the models whose sizes are known."""

    tiers: dict[ModelTier, str]
    models: dict[str, ModelFacts]


def model_facts(provider: ProviderName, model: str) -> ModelFacts | None:
    """The sizes of a model, if they are known."""
    known = _catalog().get(provider)
    return known.models.get(model) if known else None


def tier_model(provider: ProviderName, tier: ModelTier) -> str | None:
    """The provider's model for a tier, or for the nearest tier that it has."""
    known = _catalog().get(provider)
    if known is None:
        return None
    return next((known.tiers[near] for near in NEAREST_TIERS[tier] if near in known.tiers), None)


@cache
def _catalog() -> dict[str, ProviderModels]:
    text = files("perstack.llm").joinpath("models.json").read_text(encoding="utf-8")
    return _Catalog.model_validate_json(f'{{"providers":{text}}}').providers


class _Catalog(Record):
    providers: dict[str, ProviderModels]
