"""The facts about models that the package ships."""

from importlib.resources import files

import pytest
from pydantic import TypeAdapter

from perstack.definition.model import ModelTier, ProviderName
from perstack.definition.model_facts import ModelFacts
from perstack.llm.catalog import model_facts, tier_model

TIERS: tuple[ModelTier, ...] = ("low", "middle", "high")
WITH_TIERS: tuple[ProviderName, ...] = ("anthropic", "google", "openai", "deepseek", "fireworks")


@pytest.mark.parametrize("provider", WITH_TIERS)
@pytest.mark.parametrize("tier", TIERS)
def test_the_models_of_tiers_have_sizes_and_prices(provider: ProviderName, tier: ModelTier) -> None:
    facts = model_facts(provider, tier_model(provider, tier) or "")

    assert facts.context_window
    assert facts.max_output
    assert facts.price


def test_every_file_of_facts_can_be_read() -> None:
    folder = files("perstack.llm").joinpath("model_facts")
    facts = TypeAdapter(dict[str, ModelFacts])
    models = [facts.validate_json(file.read_bytes()) for file in folder.iterdir()]

    assert len(models) >= 8
    assert all(models)


def test_what_runs_on_your_own_machine_costs_nothing() -> None:
    price = model_facts("ollama", "any").price

    assert price is not None
    assert (price.input, price.output) == (0, 0)


def test_a_model_that_is_not_known_has_no_facts() -> None:
    assert model_facts("openai", "nothing-of-the-kind").model_dump(exclude_none=True) == {}
