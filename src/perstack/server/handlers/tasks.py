"""Handlers of `tasks/get`, `tasks/update` and `tasks/cancel` of the tasks extension."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
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

    @asynccontextmanager
    async def task_service(
        context: RequestContext, params: TaskParams
    ) -> AsyncGenerator[tuple["TaskService", Caller]]:
        caller = _authorize(context, params)
        try:
            yield (await server_context.tenants.services_for(caller)).tasks, caller
        except PerstackError as error:
            raise _to_mcp_error(error, params) from error

    async def get(context: RequestContext, params: TaskParams) -> JsonObject:
        async with task_service(context, params) as (tasks, caller):
            return await tasks.get(params.task_id, caller)

    async def update(context: RequestContext, params: UpdateTaskParams) -> JsonObject:
        async with task_service(context, params) as (tasks, caller):
            await tasks.update(params.task_id, params.input_responses, caller)
        return {}

    async def cancel(context: RequestContext, params: TaskParams) -> JsonObject:
        async with task_service(context, params) as (tasks, caller):
            await tasks.cancel(params.task_id, caller)
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
        raise _task_not_found(params)
    if not caller.has_tasks:
        raise tasks_unsupported(context.method)
    _check_name_header(context, params)
    if context.method == "tasks/cancel" and not caller.may_cancel_jobs:
        raise _task_not_found(params)
    return caller


def _check_name_header(context: RequestContext, params: TaskParams) -> None:
    """Check the header that repeats the task id for routers."""
    request = context.request
    header = None if request is None else request.headers.get(MCP_NAME_HEADER)
    # Not every client sends the header.
    if header is not None and decode_header_value(header) != params.task_id:
        raise MCPError(
            code=HEADER_MISMATCH, message="The header Mcp-Name names another task than the request."
        )


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
