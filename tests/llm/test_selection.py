"""Which model generates for an expert."""

from typing import Any

import pytest

from perstack.definition.model import Definitions, Expert, ModelChoice
from perstack.errors import ConfigError
from perstack.llm.model_factory import open_model

KEYS = {
    f"{name}_API_KEY": "sk-invented"
    for name in ("ANTHROPIC", "OPENAI", "DEEPSEEK", "GOOGLE_GENERATIVE_AI", "FIREWORKS")
}


def choose(toml: dict[str, Any], *, tier: str | None = None, **overrides: Any) -> ModelChoice:
    expert = Expert.model_validate(
        {"key": "a", "instruction": "Go.", **({"defaultModelTier": tier} if tier else {})}
    )
    definitions = Definitions.model_validate(toml)
    return open_model(definitions=definitions, environment=KEYS, **overrides).choose(expert)


def test_without_any_wish_the_providers_middle_model_generates() -> None:
    choice = choose({})

    assert (choice.provider.provider_name, choice.model) == ("anthropic", "claude-sonnet-4-5")
    assert (choice.reasoning_budget, choice.timeout_seconds) == ("low", 300.0)


def test_the_files_model_beats_the_middle_tier() -> None:
    assert choose({"model": "claude-opus-4-1"}).model == "claude-opus-4-1"


def test_the_experts_tier_beats_the_files_model() -> None:
    assert choose({"model": "claude-opus-4-1"}, tier="low").model == "claude-haiku-4-5"


def test_the_callers_model_beats_every_tier() -> None:
    assert choose({"model": "claude-opus-4-1"}, tier="low", model="mine").model == "mine"


@pytest.mark.parametrize(
    ("tier", "model"), [("middle", "deepseek-chat"), ("high", "deepseek-reasoner")]
)
def test_a_tier_that_a_provider_lacks_is_its_nearest(tier: str, model: str) -> None:
    assert choose({"provider": {"providerName": "deepseek"}}, tier=tier).model == model


def test_a_provider_without_tiers_uses_the_files_model() -> None:
    toml = {"provider": {"providerName": "ollama"}, "model": "gemma3:4b"}

    assert choose(toml, tier="high").model == "gemma3:4b"


def test_no_model_at_all_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"no model is set for expert 'a'.*Write `model"):
        choose({"provider": {"providerName": "ollama"}})


def test_another_provider_leaves_the_files_settings_and_model_behind() -> None:
    toml = {
        "model": "claude-opus-4-1",
        "provider": {"providerName": "anthropic", "setting": {"baseUrl": "https://a.example"}},
    }

    choice = choose(toml, provider="openai")

    assert choice.model == "gpt-5-mini"
    assert choice.provider.setting.base_url is None


def test_the_same_provider_keeps_the_files_settings() -> None:
    setting = {"baseUrl": "https://a.example"}
    toml = {"provider": {"providerName": "anthropic", "setting": setting}}

    choice = choose(toml, provider="anthropic", reasoning_budget=0, timeout_ms=1500)

    assert choice.provider.setting.base_url == "https://a.example"
    assert (choice.reasoning_budget, choice.timeout_seconds) == (0, 1.5)


def test_an_unknown_provider_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no provider 'openia'.*anthropic"):
        choose({}, provider="openia")


def test_ollama_thinks_only_when_it_is_asked_to() -> None:
    toml: dict[str, Any] = {"provider": {"providerName": "ollama"}, "model": "gemma3:4b"}

    assert choose(toml).reasoning_budget == "none"
    assert choose({**toml, "reasoningBudget": "low"}).reasoning_budget == "low"


def test_the_context_window_of_a_known_model_is_known() -> None:
    assert choose({}).facts.context_window == 200_000
    assert choose({}, model="a-new-one").facts.context_window is None


def test_facts_of_the_file_win_over_those_of_the_catalog() -> None:
    toml: dict[str, Any] = {
        "models": {
            "claude-sonnet-4-5": {"contextWindow": 1_000_000},
            "a-new-one": {"price": {"input": 2, "output": 4}},
        }
    }

    known = choose(toml).facts
    assert (known.context_window, known.max_output) == (1_000_000, 64_000)
    assert known.price is not None
    price = choose(toml, model="a-new-one").facts.price
    assert price is not None
    assert price.output == 4


def test_a_snapshot_has_the_facts_of_its_family() -> None:
    assert choose({}, model="claude-haiku-4-5-20991231").facts.max_output == 64_000


def test_the_file_chooses_models_for_tiers_of_its_provider_only() -> None:
    toml: dict[str, Any] = {"tiers": {"middle": "my-model"}}

    assert choose(toml).model == "my-model"
    assert choose(toml, provider="google").model == "gemini-2.5-flash"
