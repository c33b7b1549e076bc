"""The request `completion/complete`: the rest of an id or a name that someone began to type."""

from collections.abc import Iterable, Mapping, Sequence
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

from perstack.definition.model import Expert
from perstack.definition.tables import table_or_empty
from perstack.errors import PerstackError
from perstack.server.caller import Caller, Context, caller_of
from perstack.server.calls.refusal import called
from perstack.server.calls.tools import REVIEW
from perstack.server.face import Face
from perstack.server.reading.addresses import SHAPES
from perstack.server.users.offer import experts_for

LOG = getLogger(__name__)
MAX_VALUES = 100
"""As many as one answer may have."""

TEMPLATES = {shape.template for shape in SHAPES.values() if shape.variables or shape.numbers}


def add_completions(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` complete the variables of templates and the arguments of prompts."""

    async def complete(context: Context, params: CompleteRequestParams) -> CompleteResult:
        caller = caller_of(context)
        expert = None
        if isinstance(params.ref, PromptReference):
            expert = _expert(face, caller, params.ref.name)
        elif params.ref.uri not in TEMPLATES:
            raise MCPError(
                code=INVALID_PARAMS, message=f"There is no template{called(params.ref.uri)}."
            )
        given = (params.context and params.context.arguments) or {}
        values = await _values(face, caller, params, given, expert)
        return CompleteResult(
            completion=Completion(
                values=list(values[:MAX_VALUES]),
                total=len(values),
                has_more=len(values) > MAX_VALUES,
            )
        )

    server.add_request_handler("completion/complete", CompleteRequestParams, complete)


def _expert(face: Face, caller: Caller, prompt: str) -> Expert | None:
    """The expert of a prompt, or `None` for the one that is about any job."""
    if prompt == REVIEW and caller.may_read_jobs:
        return None
    expert = experts_for(face, caller).get(prompt)
    if expert is None:
        raise MCPError(code=INVALID_PARAMS, message=f"There is no prompt{called(prompt)}.")
    return expert


async def _values(
    face: Face,
    caller: Caller,
    params: CompleteRequestParams,
    given: Mapping[str, str],
    expert: Expert | None,
) -> Sequence[str]:
    begun = params.argument.value
    is_prompt = isinstance(params.ref, PromptReference)
    if params.argument.name == "name" and not is_prompt:
        return _beginning(experts_for(face, caller), begun)
    if expert is not None and params.argument.name != "job_id":
        return _beginning(_choices(expert, params.argument.name), begun)
    if not caller.may_read_jobs:
        return []
    try:
        if params.argument.name == "job_id":
            archive = (await face.offices.office(caller)).archive
            return await archive.job_ids(begun, expert and expert.key)
        if params.argument.name == "checkpoint_id" and not is_prompt and "job_id" in given:
            archive = (await face.offices.office(caller)).archive
            return await archive.checkpoint_ids(given["job_id"], begun)
    except PerstackError as error:
        LOG.warning("Ids cannot be completed: %s", error)
    return []


def _choices(expert: Expert, argument: str) -> list[str]:
    """The words that an argument is chosen from, if the expert declares it so."""
    declared = table_or_empty(expert.tool.input_schema).get("properties")
    choices: Sequence[object] = table_or_empty(table_or_empty(declared).get(argument)).get(
        "enum", ()
    )
    return [choice for choice in choices if isinstance(choice, str)]


def _beginning(words: Iterable[str], begun: str) -> list[str]:
    return [word for word in words if word.startswith(begun)]
