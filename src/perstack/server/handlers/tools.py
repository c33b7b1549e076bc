"""Handles `tools/list` and `tools/call`."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from perstack.definition.model import Expert
from perstack.errors import PerstackError
from perstack.server.caller import Caller, RequestContext, caller_of, http_caller
from perstack.server.context import ServerContext
from perstack.server.handlers.resources import reject_cursor
from perstack.server.tools.definitions import JOB_TOOL, expert_tools, job_tools
from perstack.server.tools.request import ToolCallRequest
from perstack.server.tools.results import (
    error_result,
    quote_name,
    strip_unsupported,
    tasks_unsupported,
)


def add_tools(server: Server[dict[str, Any]], server_context: ServerContext) -> None:
    """Publish the experts, and the tools that manage jobs, as tools."""

    async def list_tools(
        context: RequestContext, params: PaginatedRequestParams
    ) -> ListToolsResult:
        reject_cursor(params)
        caller = caller_of(context)
        job_tool_names = server_context.visible_job_tools(caller)
        wait_seconds = server_context.default_wait_seconds
        tools = expert_tools(
            server_context.visible_experts(caller),
            server_context.definitions(),
            wait_seconds,
            has_job_tools=JOB_TOOL in job_tool_names,
        )
        tools += [tool for tool in job_tools(wait_seconds) if tool.name in job_tool_names]
        server_context.activity.tools_listed.set()
        return ListToolsResult(tools=tools)

    async def call_tool(
        context: RequestContext, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult | dict[str, Any]:
        call = ToolCallRequest.create(context, params)
        with server_context.activity.track_call():
            is_job_tool = params.name in server_context.visible_job_tools(call.caller)
            expert = None if is_job_tool else _find_expert(server_context, call.caller, params.name)
            if expert is not None:
                _check_task_support(expert, call.caller)
            try:
                services = await server_context.tenants.services_for(call.caller)
                if expert is None:
                    result = await services.tools.call_job_tool(params.name, call)
                    return strip_unsupported(call.caller, result)
                outcome = await services.tools.call_expert(expert, call)
                if isinstance(outcome, InputRequiredResult):
                    return outcome
                result = strip_unsupported(call.caller, outcome)
                return await services.tasks.as_task(result) if call.caller.has_tasks else result
            except PerstackError as error:
                return error_result(error)

    server.get_tool_input_schema = partial(_declared_input_schema, server_context)
    server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)
    server.add_request_handler("tools/call", CallToolRequestParams, call_tool)


def _declared_input_schema(server_context: ServerContext, tool: str) -> Mapping[str, Any] | None:
    """The input schema that an expert declares, which the SDK compares with HTTP headers.

    Without this hook the SDK would call `tools/list` before each tool call.
    """
    expert = server_context.visible_experts(http_caller()).get(tool)
    return None if expert is None else expert.tool.input_schema


def _find_expert(server_context: ServerContext, caller: Caller, name: str) -> Expert:
    experts = server_context.visible_experts(caller)
    expert = experts.get(name)
    if expert is None:
        available = ", ".join(experts) or "none"
        raise MCPError(
            code=INVALID_PARAMS,
            message=f"Unknown tool{quote_name(name)}. The experts are: {available}.",
        )
    return expert


def _check_task_support(expert: Expert, caller: Caller) -> None:
    if expert.tool.task_support == "required" and not caller.has_tasks:
        raise tasks_unsupported(f"The expert {expert.key!r} runs as a task only, so its call")
