"""What a request costs, and whose facts win."""

import pytest

from perstack.definition.model_facts import LongInputPrices, ModelFacts, Price

PRICE = Price(
    input=3,
    output=15,
    cache_read=0.3,
    cache_write=3.75,
    long_input=LongInputPrices(above=200_000, input=6, output=22.5),
)


@pytest.mark.parametrize(
    ("input_tokens", "cached", "created", "output_tokens", "usd"),
    [
        (1_000_000 // 10, 0, 0, 0, 0.3),
        (100_000, 100_000, 0, 0, 0.03),
        (100_000, 0, 100_000, 0, 0.375),
        (100_000, 50_000, 25_000, 10_000, 0.075 + 0.015 + 0.09375 + 0.15),
        (200_001, 0, 0, 0, 1.200006),
        (200_001, 200_001, 0, 0, 1.200006),
    ],
)
def test_each_kind_of_token_has_its_price(
    input_tokens: int, cached: int, created: int, output_tokens: int, usd: float
) -> None:
    cost = PRICE.cost_usd(
        input_tokens=input_tokens,
        cached=cached,
        cache_creation=created,
        output_tokens=output_tokens,
    )

    assert cost == pytest.approx(usd)


def test_facts_of_one_source_complete_those_of_another() -> None:
    facts = ModelFacts(max_output=5).over(ModelFacts(context_window=9, max_output=1, price=PRICE))

    assert facts == ModelFacts(context_window=9, max_output=5, price=PRICE)
