"""`[budget]` and `[experts."<key>".budget]`: what jobs and runs may use."""

from typing import Annotated

from pydantic import Field

from perstack.models import FrozenModel, NaturalInt, PositiveInt

DEFAULT_MAX_DELEGATION_DEPTH = 16
DEFAULT_MAX_REPEATED_CALLS = 5

PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Budget(FrozenModel):
    """What a run and all runs that it delegates to may use together; `None` is no limit."""

    max_steps: PositiveInt | None = Field(default=None, description="Steps.")
    max_tokens: PositiveInt | None = Field(default=None, description="Tokens, in and out.")
    max_cost_usd: PositiveNumber | None = Field(default=None, description="US dollars.")
    max_seconds: PositiveNumber | None = Field(
        default=None, description="Seconds of work, until it stops or waits for an answer."
    )

    def stricter(self, other: "Budget | None") -> "Budget":
        """The smaller of each two limits."""
        if other is None:
            return self
        pairs = {
            name: [
                limit for limit in (getattr(self, name), getattr(other, name)) if limit is not None
            ]
            for name in Budget.model_fields
        }
        return Budget(**{name: min(limits) for name, limits in pairs.items() if limits})


class JobBudget(Budget):
    """What each request of a caller may use, over all runs, and how far they may go."""

    max_delegation_depth: NaturalInt = Field(
        default=DEFAULT_MAX_DELEGATION_DEPTH,
        description="How many experts may stand in one line of delegation below the first.",
    )
    max_delegation_width: PositiveInt | None = Field(
        default=None, description="How many delegates one reply may call side by side."
    )
    max_repeated_calls: NaturalInt = Field(
        default=DEFAULT_MAX_REPEATED_CALLS,
        description="How often an expert may repeat a call in a row with the same result; 0 for "
        "any number.",
    )
