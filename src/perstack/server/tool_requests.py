"""The requests `tools/list` and `tools/call`."""

from collections.abc import Mapping
from typing import Any

from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
)

from perstack.definition.model import Expert
from perstack.errors import PerstackError
from perstack.server.caller import Context
from perstack.server.face import Face, tool_call
from perstack.server.refusal import refused
from perstack.server.tools import RESERVED, expert_tools, job_tools, published


def add_tools(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` list and call the tools of `face`."""

    async def list_tools(_context: Context, _params: PaginatedRequestParams) -> ListToolsResult:
        present = face.definitions()
        experts = published(present, face.publish)
        wait_seconds = face.default_wait_seconds
        tools = expert_tools(experts, present, wait_seconds, has_job_tools=face.has_job_tools)
        if face.has_job_tools:
            tools += job_tools(wait_seconds)
        face.activity.listed.set()
        return ListToolsResult(tools=tools)

    async def call_tool(context: Context, params: CallToolRequestParams) -> CallToolResult:
        call = tool_call(context, params.arguments)
        with face.activity.call():
            is_job_tool = face.has_job_tools and params.name in RESERVED
            expert = None if is_job_tool else _find(face, params.name)
            try:
                desk = (await face.offices.office(call.caller)).desk
            except PerstackError as error:
                return refused(error)
            if expert is None:
                return await desk.look_after(params.name, call)
            return await desk.ask(expert, call)

    server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)
    server.add_request_handler("tools/call", CallToolRequestParams, call_tool)


def _find(face: Face, name: str) -> Expert:
    experts: Mapping[str, Expert] = published(face.definitions(), face.publish)
    expert = experts.get(name)
    if expert is None:
        known = ", ".join(experts) or "none"
        raise MCPError(
            code=INVALID_PARAMS, message=f"Unknown tool {name[:60]!r}. The experts are: {known}."
        )
    return expert
