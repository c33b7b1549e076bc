"""Handlers of `tasks/get`, `tasks/update` and `tasks/cancel` of the tasks extension."""

from typing import TYPE_CHECKING, Any

from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    RequestParams,
)
from pydantic import Field

from perstack.errors import NotFoundError, PerstackError
from perstack.server.caller import TASKS_EXTENSION, Caller, RequestContext, caller_of
from perstack.server.context import ServerContext
from perstack.server.tools.arguments import InvalidArgumentsError
from perstack.server.tools.results import tasks_unsupported

if TYPE_CHECKING:
    from perstack.server.tasks.service import TaskService

JsonObject = dict[str, Any]

MAX_QUOTED_ID_CHARACTERS = 200


class TaskParams(RequestParams):
    task_id: str = Field(alias="taskId")


class UpdateTaskParams(TaskParams):
    """Responses to questions of a task, by question id."""

    input_responses: dict[str, Any] = Field(alias="inputResponses", default_factory=dict)


def add_tasks(server: Server[dict[str, Any]], server_context: ServerContext) -> None:
    """Register the handlers of the tasks extension."""

    async def get(context: RequestContext, params: TaskParams) -> JsonObject:
        caller = _authorize(context, params)
        try:
            tasks = await _task_service(server_context, caller)
            return await tasks.get(params.task_id, caller)
        except PerstackError as error:
            raise _to_mcp_error(error, params) from error

    async def update(context: RequestContext, params: UpdateTaskParams) -> JsonObject:
        caller = _authorize(context, params)
        try:
            tasks = await _task_service(server_context, caller)
            await tasks.update(params.task_id, params.input_responses, caller)
        except PerstackError as error:
            raise _to_mcp_error(error, params) from error
        return {}

    async def cancel(context: RequestContext, params: TaskParams) -> JsonObject:
        caller = _authorize(context, params)
        try:
            if not caller.may_cancel_jobs:
                raise NotFoundError("A task that the caller may not cancel.")
            await (await _task_service(server_context, caller)).cancel(params.task_id, caller)
        except PerstackError as error:
            raise _to_mcp_error(error, params) from error
        return {}

    server.extensions[TASKS_EXTENSION] = {}
    server.add_request_handler("tasks/get", TaskParams, get)
    server.add_request_handler("tasks/update", UpdateTaskParams, update)
    server.add_request_handler("tasks/cancel", TaskParams, cancel)


def _authorize(context: RequestContext, params: TaskParams) -> Caller:
    caller = caller_of(context)
    if not caller.is_modern:
        raise MCPError(code=METHOD_NOT_FOUND, message="Method not found", data=context.method)
    if not caller.may_read_jobs:
        raise _task_not_found(params)  # whatever the client declares, it was never given one
    if not caller.has_tasks:
        raise tasks_unsupported(context.method)
    _check_name_header(context, params)
    return caller


def _check_name_header(context: RequestContext, params: TaskParams) -> None:
    """Check the header that repeats the task id for routers."""
    header: str | None = None
    if context.request is not None:
        header = context.request.headers.get(MCP_NAME_HEADER)
    # Not every client sends the header.
    if header is not None and decode_header_value(header) != params.task_id:
        raise MCPError(
            code=HEADER_MISMATCH, message="The header Mcp-Name names another task than the request."
        )


async def _task_service(server_context: ServerContext, caller: Caller) -> "TaskService":
    return (await server_context.tenants.services_for(caller)).tasks


def _to_mcp_error(error: PerstackError, params: TaskParams) -> MCPError:
    if isinstance(error, NotFoundError):
        return _task_not_found(params)
    code = INVALID_PARAMS if isinstance(error, InvalidArgumentsError) else INTERNAL_ERROR
    return MCPError(code=code, message=str(error))


def _task_not_found(params: TaskParams) -> MCPError:
    return MCPError(
        code=INVALID_PARAMS,
        message=f"There is no task {params.task_id[:MAX_QUOTED_ID_CHARACTERS]!r}.",
    )
