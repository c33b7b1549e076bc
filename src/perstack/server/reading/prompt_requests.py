"""The requests `prompts/list` and `prompts/get`."""

from collections.abc import Mapping
from typing import Any

from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import PromptsListChanged
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    EmbeddedResource,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    PaginatedRequestParams,
    PromptMessage,
)

from perstack.errors import NotFoundError, PerstackError
from perstack.server.caller import Caller, Context, caller_of
from perstack.server.calls.refusal import called
from perstack.server.calls.tools import REVIEW, published
from perstack.server.face import Face
from perstack.server.reading.addresses import of_job
from perstack.server.reading.paging import refuse_cursor
from perstack.server.reading.prompts import arguments_of, asking, prompts, reviewing
from perstack.server.reading.resource_requests import contents_of
from perstack.server.users.offer import experts_for


def add_prompts(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` offer the experts of `face` as prompts."""

    async def list_prompts(context: Context, params: PaginatedRequestParams) -> ListPromptsResult:
        refuse_cursor(params)
        caller = caller_of(context)
        found = prompts(experts_for(face, caller), with_jobs=caller.may_read_jobs)
        return ListPromptsResult(prompts=found)

    async def get_prompt(context: Context, params: GetPromptRequestParams) -> GetPromptResult:
        caller = caller_of(context)
        arguments = params.arguments or {}
        if params.name == REVIEW and caller.may_read_jobs:
            _refuse_others(arguments, {"job_id"})
            with face.activity.call():
                messages = await _review(face, caller, _required(arguments, "job_id"))
            return GetPromptResult(messages=messages)
        expert = experts_for(face, caller).get(params.name)
        if expert is None:
            raise MCPError(code=INVALID_PARAMS, message=f"There is no prompt{called(params.name)}.")
        known = arguments_of(expert)
        _refuse_others(arguments, {argument.name for argument in known})
        # A job that is continued knows already what it was given.
        if not arguments.get("job_id"):
            for argument in known:
                if argument.required:
                    _required(arguments, argument.name)
        return GetPromptResult(
            description=expert.description, messages=asking(params.name, arguments)
        )

    face.changes.add_surface(
        PromptsListChanged(),
        lambda definitions: prompts(published(definitions, face.publish), with_jobs=True),
    )
    server.add_request_handler("prompts/list", PaginatedRequestParams, list_prompts)
    server.add_request_handler("prompts/get", GetPromptRequestParams, get_prompt)


async def _review(face: Face, caller: Caller, job_id: str) -> list[PromptMessage]:
    try:
        archive = (await face.offices.office(caller)).archive
        job = await archive.read(of_job("job", job_id))
        events = await archive.outline(job_id)
    except NotFoundError as error:
        raise MCPError(
            code=INVALID_PARAMS, message="job_id names no job.", data={"argument": "job_id"}
        ) from error
    except PerstackError as error:
        raise MCPError(code=INTERNAL_ERROR, message=str(error)) from error
    standing = EmbeddedResource(
        type="resource", resource=contents_of(of_job("job", job_id).uri, job)
    )
    return [
        # Many clients pass the first text on and nothing else, so all that is needed is in it.
        reviewing(job_id, of_job("events", job_id).uri, events),
        PromptMessage(role="user", content=standing),
    ]


def _required(arguments: Mapping[str, str], name: str) -> str:
    value = arguments.get(name, "")
    if not value.strip():
        raise MCPError(
            code=INVALID_PARAMS,
            message=f"The argument {name} is missing.",
            data={"argument": name},
        )
    return value


def _refuse_others(arguments: Mapping[str, str], known: set[str]) -> None:
    for name in arguments:
        if name not in known:
            raise MCPError(
                code=INVALID_PARAMS,
                message=f"The prompt has no argument {name[:60]!r}.",
                data={"argument": name[:60]},
            )
