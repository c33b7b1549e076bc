"""Usage adds up, and a cost that is not known stays unknown."""

import pytest

from perstack.core.messages import Usage


def test_counts_and_costs_are_added() -> None:
    one = Usage(input_tokens=10, output_tokens=2, total_tokens=12, cost_usd=0.25)
    other = Usage(input_tokens=1, total_tokens=1, cache_creation_input_tokens=1, cost_usd=0.5)

    assert one + other == Usage(
        input_tokens=11,
        output_tokens=2,
        total_tokens=13,
        cache_creation_input_tokens=1,
        cost_usd=0.75,
    )


def test_what_used_nothing_costs_nothing() -> None:
    paid = Usage(total_tokens=5, cost_usd=0.5)

    assert (Usage() + paid + Usage()).cost_usd == 0.5


@pytest.mark.parametrize("is_first", [True, False])
def test_tokens_without_a_price_make_the_whole_cost_unknown(is_first: bool) -> None:
    paid, unknown = Usage(total_tokens=5, cost_usd=0.5), Usage(total_tokens=1)

    assert (unknown + paid if is_first else paid + unknown).cost_usd is None


def test_the_hit_rate_is_a_part_of_the_input() -> None:
    assert Usage(input_tokens=200, cached_input_tokens=50).cache_hit_rate == 0.25
    assert Usage().cache_hit_rate == 0
