"""Which expert may call which, and as what tool."""

import pytest

from perstack.definition.model import Definitions, Expert
from perstack.definition.rules import delegate_tool_names, delegation_error

ALLOWED = [("a", "@a/x"), ("a", "b"), ("@a/x", "@a/y"), ("@a/x", "b")]
REFUSED = [("a", "a"), ("@a/x", "@a/x"), ("a", "@b/x"), ("@a/x", "a"), ("@a/x", "@b/y")]


def tool_names(*delegates: str) -> dict[str, str]:
    expert = Expert(key="a", instruction="Ask the others.", delegates=delegates)
    return delegate_tool_names(expert, Definitions(experts={"a": expert}))


@pytest.mark.parametrize(("delegator", "delegate"), ALLOWED)
def test_an_expert_may_call_its_team_and_other_coordinators(delegator: str, delegate: str) -> None:
    assert delegation_error(delegator, delegate) is None


@pytest.mark.parametrize(("delegator", "delegate"), REFUSED)
def test_an_expert_may_not_call_itself_its_coordinator_or_a_foreign_team(
    delegator: str, delegate: str
) -> None:
    assert delegation_error(delegator, delegate)


@pytest.mark.parametrize(
    ("delegator", "delegate"), [("a@1.0.0", "a"), ("a", "a@2.0.0"), ("@a/x@stable", "a@1.0.0")]
)
def test_a_version_in_a_key_changes_nothing_about_who_may_call(
    delegator: str, delegate: str
) -> None:
    assert delegation_error(delegator, delegate)


def test_a_delegate_is_called_by_the_last_part_of_its_name() -> None:
    assert tool_names("@a/plan", "other") == {"@a/plan": "plan", "other": "other"}


def test_delegates_that_would_share_a_name_are_told_apart() -> None:
    names = tool_names("@a/b", "b", "@a/plan")
    assert len(set(names.values())) == len(names)
    assert names["@a/plan"] == "plan"


def test_a_tool_name_taken_by_a_third_delegate_is_not_given_twice() -> None:
    names = tool_names("@a/b", "b", "a__b")
    assert len(set(names.values())) == len(names)
    assert names["a__b"] == "a__b"
