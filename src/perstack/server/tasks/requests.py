"""The requests `tasks/get`, `tasks/update` and `tasks/cancel` of the tasks extension."""

from typing import Any

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
from perstack.server.caller import TASKS_EXTENSION, Caller, Context, caller_of
from perstack.server.calls.arguments import BadArguments
from perstack.server.calls.refusal import tasks_wanted
from perstack.server.face import Face, TaskCounter

Answer = dict[str, Any]

MAX_ID_SHOWN = 200


class TaskParams(RequestParams):
    """Which task."""

    task_id: str = Field(alias="taskId")


class UpdateTaskParams(TaskParams):
    """Answers to questions of a task, by the key of the question."""

    input_responses: dict[str, Any] = Field(alias="inputResponses", default_factory=dict)


def add_tasks(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` answer for the calls that became tasks."""

    async def get(context: Context, params: TaskParams) -> Answer:
        caller = _checked(context, params)
        try:
            tasks = await _counter(face, caller)
            return await tasks.get(params.task_id, caller)
        except PerstackError as error:
            raise _translated(error, params) from error

    async def update(context: Context, params: UpdateTaskParams) -> Answer:
        caller = _checked(context, params)
        try:
            tasks = await _counter(face, caller)
            await tasks.update(params.task_id, params.input_responses, caller)
        except PerstackError as error:
            raise _translated(error, params) from error
        return {}

    async def cancel(context: Context, params: TaskParams) -> Answer:
        caller = _checked(context, params)
        try:
            if not caller.may_cancel_jobs:
                raise NotFoundError("A task that the caller may not cancel.")
            await (await _counter(face, caller)).cancel(params.task_id, caller)
        except PerstackError as error:
            raise _translated(error, params) from error
        return {}

    server.extensions[TASKS_EXTENSION] = {}
    server.add_request_handler("tasks/get", TaskParams, get)
    server.add_request_handler("tasks/update", UpdateTaskParams, update)
    server.add_request_handler("tasks/cancel", TaskParams, cancel)


def _checked(context: Context, params: TaskParams) -> Caller:
    caller = caller_of(context)
    if not caller.is_modern:
        raise MCPError(code=METHOD_NOT_FOUND, message="Method not found", data=context.method)
    if not caller.may_read_jobs:
        raise _absent(params)  # whatever the client declares, it was never given one
    if not caller.has_tasks:
        raise tasks_wanted(context.method)
    _check_header(context, params)
    return caller


def _check_header(context: Context, params: TaskParams) -> None:
    """Over HTTP the name of a task is repeated in a header, for those who route by it."""
    given: str | None = None
    if context.request is not None:
        given = context.request.headers.get(MCP_NAME_HEADER)
    # One that is missing misleads nobody; not every client sends it.
    if given is not None and decode_header_value(given) != params.task_id:
        raise MCPError(
            code=HEADER_MISMATCH, message="The header Mcp-Name names another task than the request."
        )


async def _counter(face: Face, caller: Caller) -> TaskCounter:
    return (await face.offices.office(caller)).tasks


def _translated(error: PerstackError, params: TaskParams) -> MCPError:
    if isinstance(error, NotFoundError):
        return _absent(params)
    code = INVALID_PARAMS if isinstance(error, BadArguments) else INTERNAL_ERROR
    return MCPError(code=code, message=str(error))


def _absent(params: TaskParams) -> MCPError:
    return MCPError(
        code=INVALID_PARAMS, message=f"There is no task {params.task_id[:MAX_ID_SHOWN]!r}."
    )
