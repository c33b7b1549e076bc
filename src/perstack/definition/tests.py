"""`[[experts."<key>".tests]]`: queries with which an expert is tried, and what must come of it."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from perstack.definition.diagnostics import Diagnostic, raise_field_errors
from perstack.definition.references import MAX_QUERY_CHARACTERS
from perstack.definition.verification import Pattern
from perstack.models import FrozenModel

MAX_TESTS = 255

PathText = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Count = Annotated[int, Field(strict=True, ge=1)]
EndStatus = Literal[
    "completed",
    "stoppedByInteractiveTool",
    "stoppedByMaxSteps",
    "stoppedByBudget",
    "stoppedByError",
]


class Expectation(FrozenModel):
    """What a test expects; a limit that is not given is none."""

    status: EndStatus = Field(default="completed", description="How the job must end.")
    output_matches: Pattern | None = Field(
        default=None, description="Regular expression that must be found in the answer."
    )
    verifications: Literal["must", "all"] = Field(
        default="must",
        description="Which verifications must have passed: all of them, or those that must anyhow.",
    )
    max_steps: Count | None = Field(default=None, description="Steps that the job may take.")
    max_tokens: Count | None = Field(default=None, description="Tokens that the job may use.")
    max_seconds: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds that the job may take."
    )


class ExpertTest(FrozenModel):
    """One query with its expectation, for `perstack test`."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=80)] | None = Field(
        default=None, description="What the test is called; the query if left out."
    )
    query: Annotated[str, StringConstraints(max_length=MAX_QUERY_CHARACTERS)] = Field(
        default="", description="The task."
    )
    inputs: dict[str, Any] | None = Field(
        default=None, description="The arguments that the expert declares."
    )
    script: PathText | None = Field(
        default=None,
        description="Script of replies to play instead of asking a model, relative to "
        "perstack.toml.",
    )
    workspace: PathText | None = Field(
        default=None,
        description="Folder to begin with, relative to perstack.toml, instead of the workspace.",
    )
    expect: Expectation = Field(
        default_factory=Expectation, description="What must come of it; that it completes."
    )

    @model_validator(mode="after")
    def _validate_query(self) -> Self:
        if not self.query.strip() and self.inputs is None:
            raise_field_errors([Diagnostic("has no query", 'write query = "…"')])
        return self
