"""The request `completion/complete`: the rest of an id or a name that someone began to type."""

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any

from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    PromptReference,
)

from perstack.errors import PerstackError
from perstack.server.addresses import SHAPES
from perstack.server.caller import Caller, Context, caller_of
from perstack.server.face import Face
from perstack.server.offer import experts_for
from perstack.server.tools import REVIEW

LOG = getLogger(__name__)
MAX_VALUES = 100
"""As many as one answer may have."""

TEMPLATES = {shape.template for shape in SHAPES.values() if shape.variables}


def add_completions(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` complete the variables of templates and the arguments of prompts."""

    async def complete(context: Context, params: CompleteRequestParams) -> CompleteResult:
        caller = caller_of(context)
        expert_key = None
        if isinstance(params.ref, PromptReference):
            expert_key = _expert_key(face, caller, params.ref.name)
        elif params.ref.uri not in TEMPLATES:
            raise MCPError(
                code=INVALID_PARAMS, message=f"There is no template {params.ref.uri[:100]!r}."
            )
        given = (params.context and params.context.arguments) or {}
        values = await _values(face, caller, params, given, expert_key)
        return CompleteResult(
            completion=Completion(
                values=list(values[:MAX_VALUES]),
                total=len(values),
                has_more=len(values) > MAX_VALUES,
            )
        )

    server.add_request_handler("completion/complete", CompleteRequestParams, complete)


def _expert_key(face: Face, caller: Caller, prompt: str) -> str | None:
    """The expert of a prompt, or `None` for the one that is about any job."""
    if prompt == REVIEW and caller.may_read_jobs:
        return None
    expert = experts_for(face, caller).get(prompt)
    if expert is None:
        raise MCPError(code=INVALID_PARAMS, message=f"There is no prompt {prompt[:60]!r}.")
    return expert.key


async def _values(
    face: Face,
    caller: Caller,
    params: CompleteRequestParams,
    given: Mapping[str, str],
    expert_key: str | None,
) -> Sequence[str]:
    begun = params.argument.value
    is_prompt = isinstance(params.ref, PromptReference)
    if params.argument.name == "name" and not is_prompt:
        return [name for name in experts_for(face, caller) if name.startswith(begun)]
    if not caller.may_read_jobs:
        return []
    try:
        if params.argument.name == "job_id":
            archive = (await face.offices.office(caller)).archive
            return await archive.job_ids(begun, expert_key)
        if params.argument.name == "checkpoint_id" and not is_prompt and "job_id" in given:
            archive = (await face.offices.office(caller)).archive
            return await archive.checkpoint_ids(given["job_id"], begun)
    except PerstackError as error:
        LOG.warning("Ids cannot be completed: %s", error)
    return []
