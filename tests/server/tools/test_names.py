"""Published experts and what the server has itself never share a name."""

from perstack.definition.model import Definitions, Expert
from perstack.expert_tools import expert_toolsets
from perstack.server.tools.definitions import (
    CANCEL_TOOL,
    JOB_TOOL,
    JOBS_TOOL,
    REVIEW_PROMPT,
    published_experts,
)
from perstack.tool_names import RESERVED_TOOL_NAMES

OWN_NAMES = {JOB_TOOL, JOBS_TOOL, CANCEL_TOOL, REVIEW_PROMPT}


def test_the_names_of_the_server_are_not_given_to_experts() -> None:
    keys = (*sorted(OWN_NAMES), "reader")
    definitions = Definitions(experts={key: Expert(key=key, instruction="Go.") for key in keys})

    published = published_experts(definitions, "coordinators")

    assert OWN_NAMES == RESERVED_TOOL_NAMES
    assert not OWN_NAMES & set(published)
    checked = [each.published_name for each in expert_toolsets(definitions, {})]
    assert checked == list(published)
