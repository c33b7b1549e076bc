"""Links from results to resources, for clients that know what they are."""

from typing import TypeVar

from mcp_types import CallToolResult, ResourceLink

from perstack.server.caller import Caller

Result = TypeVar("Result")


def fit_for(caller: Caller, result: Result) -> Result:
    """The result without what the caller's protocol does not know, or the caller cannot read."""
    if not isinstance(result, CallToolResult) or (caller.has_links and caller.may_read_jobs):
        return result
    plain = [block for block in result.content if not isinstance(block, ResourceLink)]
    return result.model_copy(update={"content": plain})
