"""Names of delegates as tools: no other tool has them, and they are those that a check shows."""

import pytest

from perstack.core.tools import ToolDefinition
from perstack.definition.model import Definitions, Expert
from perstack.expert_tools import expert_toolsets
from perstack.runtime.tools import build_toolbox
from perstack.skills.builtin.skill import select_definitions
from perstack.tool_names import MAX_EXPERT_TOOL_NAME


def lead_with(*delegates: str) -> tuple[Expert, Definitions]:
    keys = ("lead", *delegates)
    tables = {key: Expert(key=key, instruction=f"You are {key}.") for key in keys}
    tables["lead"] = Expert(key="lead", instruction="Lead.", delegates=delegates)
    return tables["lead"], Definitions(experts=tables)


@pytest.mark.parametrize(
    "delegates",
    [
        ("exec", "todo"),
        ("@lead/a.b", "@lead/a_b", "a.b"),
        ("@lead/exec", "exec", "lead__exec"),
        ("x" * 50, f"@lead/{'x' * 50}"),
    ],
)
def test_every_tool_has_a_name_of_its_own_which_a_check_shows(delegates: tuple[str, ...]) -> None:
    lead, definitions = lead_with(*delegates)

    toolbox = build_toolbox(lead, definitions, select_definitions(), is_delegated=False)

    names = [tool.name for tool in toolbox.definitions]
    assert len(set(names)) == len(names)
    assert set(toolbox.delegates.values()) == set(delegates)
    assert all(len(name) <= MAX_EXPERT_TOOL_NAME for name in toolbox.delegates)
    [checked] = [each for each in expert_toolsets(definitions, {}) if each.expert is lead]
    assert checked.delegates == {key: name for name, key in toolbox.delegates.items()}


def test_a_question_that_a_delegated_run_lacks_changes_no_name() -> None:
    lead, definitions = lead_with("ask")
    ask = ToolDefinition("people", "ask", "", {}, kind="interactive")

    with_user = build_toolbox(lead, definitions, (ask,), is_delegated=False)
    without_user = build_toolbox(lead, definitions, (ask,), is_delegated=True)

    assert with_user.delegates == without_user.delegates != {"ask": "ask"}
