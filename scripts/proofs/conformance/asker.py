"""An MCP server that asks its caller in the middle of a tool call."""

from typing import Any

import anyio
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ElicitRequest,
    ElicitRequestFormParams,
    InputRequiredResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
)

Context = ServerRequestContext[dict[str, Any]]

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
DEFAULTS: dict[str, Any] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {
        "type": "string",
        "enum": ["active", "inactive", "pending"],
        "default": "active",
    },
    "verified": {"type": "boolean", "default": True},
}
THREE = ["option1", "option2", "option3"]
TITLED = [
    {"const": "value1", "title": "First Option"},
    {"const": "value2", "title": "Second Option"},
    {"const": "value3", "title": "Third Option"},
]
CHOICES: dict[str, Any] = {
    "untitledSingle": {"type": "string", "enum": THREE},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": THREE}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}
NAME: dict[str, Any] = {"name": {"type": "string"}, "confirm": {"type": "boolean"}}
WHAT = {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]}
TOOLS = [
    Tool(name="ask_with_defaults", description="Asks with defaults.", input_schema=NO_ARGUMENTS),
    Tool(name="ask_with_choices", description="Asks with choices.", input_schema=NO_ARGUMENTS),
    Tool(name="ask_for", description="Asks for something.", input_schema=WHAT),
]


async def list_tools(_context: Context, _params: PaginatedRequestParams) -> ListToolsResult:
    """The tools that ask."""
    return ListToolsResult(tools=TOOLS)


async def call_tool(
    context: Context, params: CallToolRequestParams
) -> CallToolResult | InputRequiredResult:
    """Ask, by the way of the protocol's era, and say what was answered."""
    message, properties = _form(params)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if context.session.can_send_request:
        answer = await context.session.elicit_form(message, schema, context.request_id)
        return _said(f"action={answer.action}, content={answer.content}")
    answers = params.input_responses or {}
    if "form" in answers:
        return _said(str(answers["form"]))
    form = ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))
    return InputRequiredResult(input_requests={"form": form})


def _form(params: CallToolRequestParams) -> tuple[str, dict[str, Any]]:
    match params.name:
        case "ask_with_defaults":
            return "Please review the form.", DEFAULTS
        case "ask_with_choices":
            return "Please choose.", CHOICES
        case _:
            what = str((params.arguments or {}).get("what"))
            return f"Please give {what}.", NAME


def _said(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=text)])


async def main() -> None:
    """Serve one client."""
    server: Server[dict[str, Any]] = Server("asker", version="1")
    server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)
    server.add_request_handler("tools/call", CallToolRequestParams, call_tool)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
