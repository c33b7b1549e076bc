"""The requests `tools/list` and `tools/call`."""

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
from perstack.server.caller import Caller, Context, caller_of, sender
from perstack.server.calls.links import fit_for
from perstack.server.calls.refusal import called, refused, tasks_wanted
from perstack.server.calls.tools import JOB, expert_tools, job_tools
from perstack.server.face import Face, tool_call
from perstack.server.reading.paging import refuse_cursor
from perstack.server.users.offer import experts_for, job_tools_for


def add_tools(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` list and call the tools of `face`."""

    async def list_tools(context: Context, params: PaginatedRequestParams) -> ListToolsResult:
        refuse_cursor(params)
        caller = caller_of(context)
        looking_after = job_tools_for(face, caller)
        wait_seconds = face.default_wait_seconds
        tools = expert_tools(
            experts_for(face, caller),
            face.definitions(),
            wait_seconds,
            has_job_tools=JOB in looking_after,
        )
        tools += [tool for tool in job_tools(wait_seconds) if tool.name in looking_after]
        face.activity.listed.set()
        return ListToolsResult(tools=tools)

    async def call_tool(
        context: Context, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult | dict[str, Any]:
        call = tool_call(context, params)
        with face.activity.call():
            is_job_tool = params.name in job_tools_for(face, call.caller)
            expert = None if is_job_tool else _find(face, call.caller, params.name)
            if expert is not None:
                _check_task_support(expert, call.caller)
            try:
                office = await face.offices.office(call.caller)
                if expert is None:
                    return fit_for(call.caller, await office.desk.look_after(params.name, call))
                outcome = await office.desk.ask(expert, call)
                if isinstance(outcome, InputRequiredResult):
                    return outcome
                answer = fit_for(call.caller, outcome)
                return await office.tasks.instead(answer) if call.caller.has_tasks else answer
            except PerstackError as error:
                return refused(error)

    server.get_tool_input_schema = partial(_own_schema, face)
    server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)
    server.add_request_handler("tools/call", CallToolRequestParams, call_tool)


def _own_schema(face: Face, tool: str) -> Mapping[str, Any] | None:
    """What an expert declares of its arguments, for whoever compares them with HTTP headers.

    Without it the SDK would list all tools before each call: a request that nobody has made.
    """
    expert = experts_for(face, sender()).get(tool)
    return None if expert is None else expert.tool.input_schema


def _find(face: Face, caller: Caller, name: str) -> Expert:
    experts = experts_for(face, caller)
    expert = experts.get(name)
    if expert is None:
        known = ", ".join(experts) or "none"
        raise MCPError(
            code=INVALID_PARAMS, message=f"Unknown tool{called(name)}. The experts are: {known}."
        )
    return expert


def _check_task_support(expert: Expert, caller: Caller) -> None:
    if expert.tool.task_support == "required" and not caller.has_tasks:
        raise tasks_wanted(f"The expert {expert.key!r} runs as a task only, so its call")
