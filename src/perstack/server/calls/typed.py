"""What a call gives to an expert: arguments of its own, and those that every expert has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perstack.core.inputs import as_meant, declared, follow_up, in_words, input_problems
from perstack.definition.model import Expert
from perstack.definition.names import MAX_QUERY_CHARACTERS
from perstack.server.calls import schemas
from perstack.server.calls.arguments import examined, refuse
from perstack.server.calls.schemas import Schema


@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of a call, checked.

    Attributes:
        common: Those that every expert has, by name; `query` is always there.
        inputs: Those that the expert declares; none at all for one that declares none.
    """

    common: Mapping[str, Any]
    inputs: Mapping[str, Any] | None = None

    @property
    def may_repeat(self) -> bool:
        """Whether it takes the job's earlier query to tell what is new."""
        return bool("job_id" in self.common and self.inputs)

    def words(self, earlier: str = "") -> str:
        """What the expert is told.

        Args:
            earlier: The present query of the job that goes on.
        """
        query: str = self.common["query"]
        if self.inputs is None:
            return query
        if "job_id" in self.common:
            return follow_up(self.inputs, query, earlier)
        return in_words(self.inputs, query)


def arguments_of(
    expert: Expert, arguments: Mapping[str, Any], default_wait_seconds: float | None
) -> Given:
    """The arguments of a call of an expert's tool.

    Raises:
        BadArguments: Names every argument that is missing, unknown or wrong.
    """
    own = expert.tool.input_schema
    of_all = schemas.expert_input(default_wait_seconds)
    if own is not None:
        return _typed(own, arguments, of_all, schemas.expert_input(default_wait_seconds, own))
    # Who names a job and says nothing else, wants to wait for it or to have it go on.
    unsaid = {"query": ""} if arguments.get("job_id") else {}
    common, problems = examined({**unsaid, **arguments}, of_all)
    refuse(problems, of_all)
    return Given(common)


def _typed(own: Schema, arguments: Mapping[str, Any], of_all: Schema, shown: Schema) -> Given:
    mine = declared(own)
    rest = {name: value for name, value in arguments.items() if name not in mine}
    if rest.get("query") is None:
        rest["query"] = ""
    common, problems = examined(rest, of_all)
    inputs = {name: value for name, value in arguments.items() if name in mine}
    is_new = "job_id" not in common
    if is_new or inputs:
        inputs = as_meant(own, inputs)
    query = rest["query"] if isinstance(rest["query"], str) else ""
    # Before they are checked, which may take long for what is large.
    length = len(in_words(inputs, query))
    if length > MAX_QUERY_CHARACTERS:
        reason = f"they have {length:,} characters together, more than {MAX_QUERY_CHARACTERS:,}"
        refuse([*problems, reason], shown)
    refuse([*problems, *input_problems(own, inputs, query, is_new=is_new)], shown)
    return Given(common, inputs)
