"""What is known of a model: its sizes in tokens, and its price."""

from typing import Annotated

from pydantic import Field

from perstack.models import FrozenModel, PositiveInt

TOKENS_PER_PRICE = 1_000_000

UsDollars = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TokenPrices(FrozenModel):
    """US dollars for a million tokens. Cached input without a price of its own costs as other."""

    input: UsDollars = Field(description="US dollars for a million tokens of input.")
    output: UsDollars = Field(description="US dollars for a million tokens of output.")
    cache_read: UsDollars | None = Field(
        default=None, description="The same for input that the provider had cached."
    )
    cache_write: UsDollars | None = Field(
        default=None, description="The same for input that the provider puts into its cache."
    )


class LongInputPrices(TokenPrices):
    """What all tokens of a request cost whose input is longer than `above` tokens."""

    above: PositiveInt = Field(description="Tokens of input from which on these prices hold.")


class Price(TokenPrices):
    """What the tokens of a request cost."""

    long_input: LongInputPrices | None = Field(
        default=None, description="The prices of requests with a long input, if they differ."
    )

    def cost_usd(
        self, *, input_tokens: int, cached: int, cache_creation: int, output_tokens: int
    ) -> float:
        """US dollars for a request; `input_tokens` includes the other two kinds of input."""
        prices: TokenPrices = self
        if self.long_input is not None and input_tokens > self.long_input.above:
            prices = self.long_input
        read = prices.input if prices.cache_read is None else prices.cache_read
        write = prices.input if prices.cache_write is None else prices.cache_write
        uncached = max(input_tokens - cached - cache_creation, 0)
        total = (
            uncached * prices.input
            + cached * read
            + cache_creation * write
            + output_tokens * prices.output
        )
        return round(total / TOKENS_PER_PRICE, 9)


class ModelFacts(FrozenModel):
    """`[models."<name>"]`: facts about a model; what is not known is `None`."""

    context_window: PositiveInt | None = Field(
        default=None, description="Tokens that the model can take."
    )
    max_output: PositiveInt | None = Field(
        default=None, description="Tokens that one reply can have."
    )
    price: Price | None = Field(default=None, description="What the model's tokens cost.")

    def over(self, other: "ModelFacts") -> "ModelFacts":
        """These facts, and those of `other` where these are not known."""
        own = {name: getattr(self, name) for name in ModelFacts.model_fields}
        return other.model_copy(
            update={name: value for name, value in own.items() if value is not None}
        )
