"""Handles `resources/list`, `resources/templates/list` and `resources/read`.

The answer for a resource that the caller may not read is the same as for one that does not exist.
"""

from collections.abc import Mapping, Sequence
from logging import getLogger
from typing import Any

import anyio
from mcp.server import Server
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourcesListChanged
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    TextResourceContents,
)

from perstack.errors import NotFoundError, PerstackError
from perstack.server.caller import Caller, RequestContext, caller_of
from perstack.server.context import ServerContext
from perstack.server.resources.definition_documents import definitions_document, expert_document
from perstack.server.resources.uris import (
    MAX_LISTED_JOBS,
    InvalidResourceUriError,
    ResourceUri,
    definition_resources,
    job_resources,
    parse_uri,
    resource_templates,
)
from perstack.server.summaries import Document, JobEntry
from perstack.server.tools.definitions import published_experts

LOG = getLogger(__name__)

RESOURCE_NOT_FOUND = -32002
"""The error code before 2026-07-28, which uses `INVALID_PARAMS` instead."""

PAGE_LENGTH = 100
MAX_CURSOR_DIGITS = 9
IMMUTABLE_TTL_MS = 3_600_000
TOOLS_LIST_WAIT_SECONDS = 1.0

_DEFINITION_METHODS: tuple[CacheableMethod, ...] = (
    "tools/list",
    "prompts/list",
    "resources/templates/list",
    "server/discover",
)
_JOB_METHODS: tuple[CacheableMethod, ...] = ("resources/list", "resources/read")


def cache_hints(list_seconds: int) -> Mapping[CacheableMethod, CacheHint]:
    """The cache hints of results that set none of their own."""
    list_hint = CacheHint(ttl_ms=list_seconds * 1000, scope="private")
    no_cache = CacheHint(ttl_ms=0, scope="private")
    return {
        **dict.fromkeys(_DEFINITION_METHODS, list_hint),
        **dict.fromkeys(_JOB_METHODS, no_cache),
    }


def reject_cursor(params: PaginatedRequestParams) -> None:
    """For a list of one page, for which no cursor is valid.

    Raises:
        MCPError: The client has sent one.
    """
    if params.cursor is not None:
        raise _invalid_cursor()


def _invalid_cursor() -> MCPError:
    return MCPError(
        code=INVALID_PARAMS, message="This cursor is none that the server gave: begin without one."
    )


def add_resources(server: Server[dict[str, Any]], server_context: ServerContext) -> None:
    """Handle the requests for resources."""

    async def list_resources(
        context: RequestContext, params: PaginatedRequestParams
    ) -> ListResourcesResult:
        caller = caller_of(context)
        resources = definition_resources(server_context.visible_experts(caller))
        if caller.may_read_jobs:
            resources += job_resources(await _newest_jobs(server_context, caller))
        return _paginate(resources, params.cursor)

    async def list_templates(
        context: RequestContext, params: PaginatedRequestParams
    ) -> ListResourceTemplatesResult:
        reject_cursor(params)
        templates = resource_templates(with_jobs=caller_of(context).may_read_jobs)
        return ListResourceTemplatesResult(resource_templates=templates)

    async def read(
        context: RequestContext, params: ReadResourceRequestParams
    ) -> ReadResourceResult:
        caller = caller_of(context)
        document = await read_resource(server_context, caller, params.uri)
        return ReadResourceResult(
            contents=[text_contents(params.uri, document)],
            ttl_ms=IMMUTABLE_TTL_MS if document.is_immutable else 0,
            cache_scope="private",
        )

    server_context.notifications.add_list_projection(
        ResourcesListChanged(),
        lambda definitions: definition_resources(
            published_experts(definitions, server_context.publish)
        ),
    )
    server.add_request_handler("resources/list", PaginatedRequestParams, list_resources)
    server.add_request_handler("resources/templates/list", PaginatedRequestParams, list_templates)
    server.add_request_handler("resources/read", ReadResourceRequestParams, read)


async def read_resource(server_context: ServerContext, caller: Caller, uri: str) -> Document:
    """The document at `uri`.

    Raises:
        MCPError: There is none for this caller, or it cannot be read.
    """
    document: Document | None = None
    try:
        with server_context.activity.track_call():
            parsed_uri = parse_uri(uri)
            if parsed_uri is not None:
                document = await _find_document(server_context, caller, parsed_uri)
    except InvalidResourceUriError as error:
        raise MCPError(code=INVALID_PARAMS, message=str(error), data={"uri": uri}) from error
    except NotFoundError:
        pass
    except PerstackError as error:
        raise MCPError(code=INTERNAL_ERROR, message=str(error), data={"uri": uri}) from error
    if document is None:
        code = INVALID_PARAMS if caller.is_modern else RESOURCE_NOT_FOUND
        raise MCPError(code=code, message="Resource not found", data={"uri": uri})
    return document


def text_contents(uri: str, document: Document) -> TextResourceContents:
    """A document as it is sent."""
    meta = {"perstack/next": document.next_uri} if document.next_uri else None
    return TextResourceContents(
        uri=uri, mime_type=document.mime_type, text=document.text, _meta=meta
    )


async def _find_document(
    server_context: ServerContext, caller: Caller, uri: ResourceUri
) -> Document | None:
    if uri.kind == "definitions":
        problems = server_context.problems() if caller.may_see_problems else ()
        return definitions_document(
            server_context.definitions(), server_context.visible_experts(caller), problems
        )
    if uri.kind == "expert":
        name = uri.path_params["name"]
        expert = server_context.visible_experts(caller).get(name)
        return None if expert is None else expert_document(name, expert)
    if not caller.may_read_jobs:
        return None
    services = await server_context.tenants.services_for(caller)
    return await services.resources.read(uri)


async def _newest_jobs(server_context: ServerContext, caller: Caller) -> tuple[JobEntry, ...]:
    # Clients list tools and resources at the same time, and only jobs need an engine.
    with anyio.move_on_after(TOOLS_LIST_WAIT_SECONDS):
        await server_context.activity.tools_listed.wait()
    try:
        services = await server_context.tenants.services_for(caller)
        return await services.resources.newest_jobs(MAX_LISTED_JOBS)
    except PerstackError as error:
        LOG.warning("The jobs cannot be listed as resources: %s", error)
        return ()


def _paginate(resources: Sequence[Resource], cursor: str | None) -> ListResourcesResult:
    first = 0 if cursor is None else _parse_cursor(cursor)
    last = first + PAGE_LENGTH
    return ListResourcesResult(
        resources=list(resources[first:last]),
        next_cursor=str(last) if last < len(resources) else None,
    )


def _parse_cursor(cursor: str) -> int:
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= MAX_CURSOR_DIGITS:
        return int(cursor)
    raise _invalid_cursor()
