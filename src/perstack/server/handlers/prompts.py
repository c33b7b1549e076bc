"""Handles `prompts/list`, `prompts/get` and `completion/complete`."""

from collections.abc import Iterable, Mapping, Sequence
from logging import getLogger
from typing import Any

from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import PromptsListChanged
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CompleteRequestParams,
    CompleteResult,
    Completion,
    EmbeddedResource,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    PaginatedRequestParams,
    PromptMessage,
    PromptReference,
)

from perstack.definition.model import Expert
from perstack.errors import NotFoundError, PerstackError
from perstack.models import table_or_empty
from perstack.server.caller import Caller, RequestContext, caller_of
from perstack.server.context import ServerContext
from perstack.server.handlers.resources import reject_cursor, text_contents
from perstack.server.prompts import build_prompts, expert_prompt, prompt_arguments, review_prompt
from perstack.server.resources.uris import TEMPLATES, job_uri
from perstack.server.tools.definitions import REVIEW_PROMPT, published_experts
from perstack.server.tools.results import quote_name

LOG = getLogger(__name__)
MAX_VALUES = 100
"""The protocol's limit for one completion."""

COMPLETABLE_TEMPLATES = {
    template.text
    for template in TEMPLATES.values()
    if template.path_variables or template.query_params
}


def add_completions(server: Server[dict[str, Any]], server_context: ServerContext) -> None:
    """Complete the variables of resource templates and the arguments of prompts."""

    async def complete(context: RequestContext, params: CompleteRequestParams) -> CompleteResult:
        caller = caller_of(context)
        expert = None
        if isinstance(params.ref, PromptReference):
            expert = _find_prompt_expert(server_context, caller, params.ref.name)
        elif params.ref.uri not in COMPLETABLE_TEMPLATES:
            raise MCPError(
                code=INVALID_PARAMS, message=f"There is no template{quote_name(params.ref.uri)}."
            )
        values = await _complete_values(server_context, caller, params, expert)
        return CompleteResult(
            completion=Completion(
                values=list(values[:MAX_VALUES]),
                total=len(values),
                has_more=len(values) > MAX_VALUES,
            )
        )

    server.add_request_handler("completion/complete", CompleteRequestParams, complete)


def _find_prompt_expert(
    server_context: ServerContext, caller: Caller, prompt: str
) -> Expert | None:
    """The expert of a prompt, or `None` for the prompt that reviews a job."""
    if prompt == REVIEW_PROMPT and caller.may_read_jobs:
        return None
    expert = server_context.visible_experts(caller).get(prompt)
    if expert is None:
        raise MCPError(code=INVALID_PARAMS, message=f"There is no prompt{quote_name(prompt)}.")
    return expert


async def _complete_values(
    server_context: ServerContext,
    caller: Caller,
    params: CompleteRequestParams,
    expert: Expert | None,
) -> Sequence[str]:
    name, prefix = params.argument.name, params.argument.value
    is_prompt = isinstance(params.ref, PromptReference)
    if name == "name" and not is_prompt:
        return _with_prefix(server_context.visible_experts(caller), prefix)
    if expert is not None and name != "job_id":
        return _with_prefix(_enum_choices(expert, name), prefix)
    if not caller.may_read_jobs:
        return []
    context_arguments = (params.context and params.context.arguments) or {}
    job_id = context_arguments.get("job_id")
    tenants = server_context.tenants
    try:
        if name == "job_id":
            reader = (await tenants.services_for(caller)).resources
            return await reader.job_ids(prefix, expert and expert.key)
        if name == "checkpoint_id" and not is_prompt and job_id is not None:
            reader = (await tenants.services_for(caller)).resources
            return await reader.checkpoint_ids(job_id, prefix)
    except PerstackError as error:
        LOG.warning("Ids cannot be completed: %s", error)
    return []


def _enum_choices(expert: Expert, argument: str) -> list[str]:
    """The allowed values of an argument, if the expert declares an enum."""
    declared = table_or_empty(expert.tool.input_schema).get("properties")
    choices: Sequence[object] = table_or_empty(table_or_empty(declared).get(argument)).get(
        "enum", ()
    )
    return [choice for choice in choices if isinstance(choice, str)]


def _with_prefix(words: Iterable[str], prefix: str) -> list[str]:
    return [word for word in words if word.startswith(prefix)]


def add_prompts(server: Server[dict[str, Any]], server_context: ServerContext) -> None:
    """Publish the experts as prompts."""

    async def list_prompts(
        context: RequestContext, params: PaginatedRequestParams
    ) -> ListPromptsResult:
        reject_cursor(params)
        caller = caller_of(context)
        experts = server_context.visible_experts(caller)
        return ListPromptsResult(prompts=build_prompts(experts, with_jobs=caller.may_read_jobs))

    async def get_prompt(
        context: RequestContext, params: GetPromptRequestParams
    ) -> GetPromptResult:
        caller = caller_of(context)
        arguments = params.arguments or {}
        expert = _find_prompt_expert(server_context, caller, params.name)
        if expert is None:
            _reject_unknown_arguments(arguments, {"job_id"})
            with server_context.activity.track_call():
                messages = await _review_messages(
                    server_context, caller, _require_argument(arguments, "job_id")
                )
            return GetPromptResult(messages=messages)
        allowed_arguments = prompt_arguments(expert)
        _reject_unknown_arguments(arguments, {argument.name for argument in allowed_arguments})
        # A job that is continued already has its arguments.
        if not arguments.get("job_id"):
            for argument in allowed_arguments:
                if argument.required:
                    _require_argument(arguments, argument.name)
        return GetPromptResult(
            description=expert.description, messages=expert_prompt(params.name, arguments)
        )

    server_context.notifications.add_list_projection(
        PromptsListChanged(),
        lambda definitions: build_prompts(
            published_experts(definitions, server_context.publish), with_jobs=True
        ),
    )
    server.add_request_handler("prompts/list", PaginatedRequestParams, list_prompts)
    server.add_request_handler("prompts/get", GetPromptRequestParams, get_prompt)


async def _review_messages(
    server_context: ServerContext, caller: Caller, job_id: str
) -> list[PromptMessage]:
    try:
        reader = (await server_context.tenants.services_for(caller)).resources
        job = await reader.read(job_uri("job", job_id))
        events = await reader.outline(job_id)
    except NotFoundError as error:
        raise MCPError(
            code=INVALID_PARAMS, message="job_id names no job.", data={"argument": "job_id"}
        ) from error
    except PerstackError as error:
        raise MCPError(code=INTERNAL_ERROR, message=str(error)) from error
    job_resource = EmbeddedResource(
        type="resource", resource=text_contents(job_uri("job", job_id).text, job)
    )
    return [
        # Many clients use only the first text, so it contains all that is needed.
        review_prompt(job_id, job_uri("events", job_id).text, events),
        PromptMessage(role="user", content=job_resource),
    ]


def _require_argument(arguments: Mapping[str, str], name: str) -> str:
    value = arguments.get(name, "")
    if not value.strip():
        raise MCPError(
            code=INVALID_PARAMS,
            message=f"The argument {name} is missing.",
            data={"argument": name},
        )
    return value


def _reject_unknown_arguments(arguments: Mapping[str, str], allowed: set[str]) -> None:
    for name in arguments:
        if name not in allowed:
            raise MCPError(
                code=INVALID_PARAMS,
                message=f"The prompt has no argument {name[:60]!r}.",
                data={"argument": name[:60]},
            )
