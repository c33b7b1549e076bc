"""Links from results to resources, for clients that know what they are."""

from typing import TypeVar

from mcp_types import Annotations, CallToolResult, ResourceLink

from perstack.server.addresses import of_job
from perstack.server.caller import Caller
from perstack.server.documents import MARKDOWN, PLAIN, size, sound

Result = TypeVar("Result")


def result_link(job_id: str, text: str, *, is_answer: bool) -> ResourceLink:
    """Where the whole text of a job is; for people, as models have it in the result."""
    return ResourceLink(
        type="resource_link",
        name=f"result {job_id}",
        title="The whole result",
        uri=of_job("result", job_id).uri,
        mime_type=MARKDOWN if is_answer else PLAIN,
        size=size(sound(text)),
        annotations=Annotations(audience=["user"], priority=0.2),
    )


def fit_for(caller: Caller, result: Result) -> Result:
    """The result without what the caller's protocol does not know, or the caller cannot read."""
    if not isinstance(result, CallToolResult) or (caller.has_links and caller.may_read_jobs):
        return result
    plain = [block for block in result.content if not isinstance(block, ResourceLink)]
    return result.model_copy(update={"content": plain})
