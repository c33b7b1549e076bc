"""Who may delegate to whom, and what a delegate is called as a tool."""

from collections import Counter

from perstack.definition.model import Definitions, Expert
from perstack.definition.names import coordinator_of, name_of
from perstack.definition.tool_names import distinct, short_tool_name, tool_name


def delegation_fault(delegator: str, delegate: str) -> str | None:
    """Why one expert may not delegate to another, judged by their keys; `None` if it may.

    A coordinator reaches its own delegates and other coordinators, a delegate its siblings and
    other coordinators. Coordinators may delegate to each other mutually; budgets bound that.
    """
    source, target = name_of(delegator), name_of(delegate)
    team, target_team = coordinator_of(source), coordinator_of(target)
    if source == target:
        return "an expert cannot delegate to itself"
    if team == target:
        return "a delegate cannot delegate to its own coordinator"
    if target_team is not None and target_team != (team or source):
        return (
            f"{target!r} may only be called by its coordinator {target_team!r} and that one's"
            " delegates"
        )
    return None


def delegate_tool_names(
    expert: Expert,
    definitions: Definitions,  # noqa: ARG001 - names of experts from a registry will depend on it
) -> dict[str, str]:
    """The tool name of each delegate of `expert`, by expert key, in the order of its `delegates`.

    A delegate is called by the last segment of its name. Delegates that would share it are called
    by their whole names, and should even these be alike, by names with a hash. Tools of MCP skills
    are known at run time only and not regarded.
    """
    short = {key: short_tool_name(name_of(key)) for key in expert.delegates}
    uses = Counter(short.values())
    taken = {name for name, count in uses.items() if count == 1}
    names: dict[str, str] = {}
    for key, name in short.items():
        if uses[name] > 1:
            full = tool_name(name_of(key))
            names[key] = distinct(full, key) if full in taken else full
        else:
            names[key] = name
        taken.add(names[key])
    return names
