"""The tools that a server offers, read one by one: what is wrong with one costs no other."""

from collections.abc import Callable
from typing import Any, cast

import anyio
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp.types import CONNECTION_CLOSED, PaginatedRequestParams, Tool, ToolAnnotations
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from perstack.definition.schema_rules import JSON_TYPES
from perstack.models import table_or_empty
from perstack.skills.raw_results import RawResults

MAX_PAGES = 1_000
UNDECLARED_SECONDS = 5.0
"""How long a server may take to list tools that it does not declare, as some forget to."""

Fields = dict[str, Any]
Warn = Callable[[str], None]


async def list_tools(client: Client, results: RawResults, warn: Warn) -> tuple[Tool, ...]:
    """All tools of a server that can be used, page by page; none if it does not offer any.

    Args:
        client: Connected.
        results: Those of its connection.
        warn: Is told what was left out, and why.

    Raises:
        MCPError: The server refused the question, or ended.
        ValueError: It answers with something that is no list of tools.
    """
    if client.server_capabilities.tools is not None:
        return await _list_pages(client, results, warn)
    with anyio.move_on_after(UNDECLARED_SECONDS):
        try:
            return await _list_pages(client, results, warn)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                raise
        except ValueError as error:
            warn(str(error))
    return ()


async def _list_pages(client: Client, results: RawResults, warn: Warn) -> tuple[Tool, ...]:
    listing = _Listing(warn, is_modern=client.protocol_version in MODERN_PROTOCOL_VERSIONS)
    cursors: set[str] = set()
    cursor: str | None = None
    for number in range(1, MAX_PAGES + 1):
        params = None if cursor is None else PaginatedRequestParams(cursor=cursor)
        try:
            page = results.take(await client.session.list_tools(params=params))
            listing.add(page)
        except (MCPError, ValueError) as error:
            if number == 1 or (isinstance(error, MCPError) and error.code == CONNECTION_CLOSED):
                raise
            warn(f"page {number} of its tools cannot be read, and none after it: {error}")
            break
        cursor = _next_cursor(page)
        if cursor is None:
            break
        if cursor in cursors:
            warn(f"its list of tools has no end: it goes on with {cursor!r} once more")
            break
        cursors.add(cursor)
    else:
        warn(f"its list of tools has more than {MAX_PAGES} pages; those after them are left out")
    return tuple(listing.tools.values())


class _Listing:
    """The usable tools of the pages so far, by name."""

    def __init__(self, warn: Warn, *, is_modern: bool) -> None:
        self.tools: dict[str, Tool] = {}
        self._warn = warn
        self._is_modern = is_modern

    def add(self, page: Fields) -> None:
        raw_tools = page.get("tools")
        if not isinstance(raw_tools, list):
            raise ValueError(  # noqa: TRY004 -- what a server wrote, not what a caller passed
                f"its list of tools is {_kind(raw_tools)}, not an array"
            )
        for raw_tool in cast("list[object]", raw_tools):
            self._add_tool(raw_tool)

    def _add_tool(self, raw_tool: object) -> None:
        fields = table_or_empty(raw_tool)
        name = fields.get("name")
        if not isinstance(name, str) or not name.strip():
            self._warn(f"a tool without a name is left out: {repr(raw_tool)[:80]}")
            return
        schema = fields.get("inputSchema")
        problem = None if schema is None else self._schema_problem(schema)
        if problem is not None:
            self._warn(f"the tool {name!r} is left out: its inputSchema {problem}")
            return
        output_schema = fields.get("outputSchema")
        if output_schema is not None and (problem := _type_problem(output_schema)) is not None:
            self._warn(f"the outputSchema of the tool {name!r} {problem}; it is ignored")
        tool = _to_tool(name, table_or_empty(schema), fields)
        if self.tools.setdefault(name, tool) != tool:
            self._warn(f"there is more than one tool {name!r}; the first is used")

    def _schema_problem(self, schema: object) -> str | None:
        problem = _type_problem(schema)
        if problem is None and self._is_modern:
            # The protocol demands that such a tool is not used.
            return find_invalid_x_mcp_header(schema)
        return problem


def _to_tool(name: str, schema: Fields, fields: Fields) -> Tool:
    hints = table_or_empty(fields.get("annotations"))
    return Tool(
        name=name,
        title=_text(fields.get("title")),
        description=_text(fields.get("description")),
        input_schema=schema,
        annotations=ToolAnnotations(
            read_only_hint=hints.get("readOnlyHint") is True,
            idempotent_hint=hints.get("idempotentHint") is True,
        ),
    )


def _type_problem(schema: object) -> str | None:
    """Why a schema is not one of objects, which it may say in other words than the standard's."""
    if not isinstance(schema, dict):
        return f"is {_kind(schema)}, not an object"
    kind = table_or_empty(cast("object", schema)).get("type")
    kinds = cast("list[object]", kind) if isinstance(kind, list) else [kind]
    is_other = kinds and all(each in JSON_TYPES and each != "object" for each in kinds)
    return f"is of type {kind!r}, not 'object'" if is_other else None


def _next_cursor(page: Fields) -> str | None:
    cursor = page.get("nextCursor")
    if isinstance(cursor, int) and not isinstance(cursor, bool):
        return str(cursor)
    return cursor if isinstance(cursor, str) and cursor else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _kind(value: object) -> str:
    match value:
        case None:
            return "missing"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return "a boolean" if isinstance(value, bool) else "a number"
