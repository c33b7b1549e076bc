"""The requests `resources/list`, `resources/templates/list` and `resources/read`.

What a caller may not see is answered exactly like what is not there.
"""

from collections.abc import Sequence
from logging import getLogger
from typing import Any

import anyio
from mcp.server import Server
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
from perstack.server.caller import Caller, Context, caller_of
from perstack.server.calls.tools import published
from perstack.server.face import Face
from perstack.server.reading.addresses import Address, BadAddressError, parse
from perstack.server.reading.catalogue import definitions_document, expert_document
from perstack.server.reading.documents import Document, JobEntry
from perstack.server.reading.paging import refuse_cursor, unknown_cursor
from perstack.server.reading.resources import (
    NEWEST_JOBS,
    definition_resources,
    job_resources,
    templates,
)
from perstack.server.users.offer import experts_for

LOG = getLogger(__name__)

RESOURCE_NOT_FOUND = -32002
"""What the protocol called it before 2026-07-28, which has `INVALID_PARAMS` for it."""

PAGE_LENGTH = 100
LONGEST_CURSOR = 9
LASTING_MS = 3_600_000
TOOLS_FIRST_SECONDS = 1.0


def add_resources(server: Server[dict[str, Any]], face: Face) -> None:
    """Have `server` list and read what the offices of `face` keep."""

    async def list_resources(
        context: Context, params: PaginatedRequestParams
    ) -> ListResourcesResult:
        caller = caller_of(context)
        found = definition_resources(experts_for(face, caller))
        if caller.may_read_jobs:
            found += job_resources(await _newest(face, caller))
        return _page_of(found, params.cursor)

    async def list_templates(
        context: Context, params: PaginatedRequestParams
    ) -> ListResourceTemplatesResult:
        refuse_cursor(params)
        with_jobs = caller_of(context).may_read_jobs
        return ListResourceTemplatesResult(resource_templates=templates(with_jobs=with_jobs))

    async def read(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
        caller = caller_of(context)
        document = await read_resource(face, caller, params.uri)
        return ReadResourceResult(
            contents=[contents_of(params.uri, document)],
            ttl_ms=LASTING_MS if document.is_lasting else 0,
            cache_scope="private",
        )

    face.changes.add_surface(
        ResourcesListChanged(),
        lambda definitions: definition_resources(published(definitions, face.publish)),
    )
    server.add_request_handler("resources/list", PaginatedRequestParams, list_resources)
    server.add_request_handler("resources/templates/list", PaginatedRequestParams, list_templates)
    server.add_request_handler("resources/read", ReadResourceRequestParams, read)


async def read_resource(face: Face, caller: Caller, uri: str) -> Document:
    """What is at `uri` for this caller.

    Raises:
        MCPError: Nothing is, or it cannot be read.
    """
    try:
        with face.activity.call():
            address = parse(uri)
            document = None if address is None else await _document(face, caller, address)
    except BadAddressError as error:
        raise MCPError(code=INVALID_PARAMS, message=str(error), data={"uri": uri}) from error
    except NotFoundError:
        document = None
    except PerstackError as error:
        raise MCPError(code=INTERNAL_ERROR, message=str(error), data={"uri": uri}) from error
    if document is None:
        raise _absent(caller, uri)
    return document


def contents_of(uri: str, document: Document) -> TextResourceContents:
    """A document as it is sent."""
    following = {"perstack/next": document.next_uri} if document.next_uri else None
    return TextResourceContents(
        uri=uri, mime_type=document.mime_type, text=document.text, _meta=following
    )


async def _document(face: Face, caller: Caller, address: Address) -> Document | None:
    if address.kind == "definitions":
        problems = face.problems() if caller.may_see_problems else ()
        return definitions_document(face.definitions(), experts_for(face, caller), problems)
    if address.kind == "expert":
        name = address.names["name"]
        expert = experts_for(face, caller).get(name)
        return None if expert is None else expert_document(name, expert)
    if not caller.may_read_jobs:
        return None
    office = await face.offices.office(caller)
    return await office.archive.read(address)


async def _newest(face: Face, caller: Caller) -> tuple[JobEntry, ...]:
    # A client asks for its tools and for resources in one breath, and only jobs need an engine.
    with anyio.move_on_after(TOOLS_FIRST_SECONDS):
        await face.activity.listed.wait()
    try:
        office = await face.offices.office(caller)
        return await office.archive.newest(NEWEST_JOBS)
    except PerstackError as error:
        LOG.warning("The jobs cannot be listed as resources: %s", error)
        return ()


def _page_of(found: Sequence[Resource], cursor: str | None) -> ListResourcesResult:
    first = 0 if cursor is None else _number(cursor)
    last = first + PAGE_LENGTH
    return ListResourcesResult(
        resources=list(found[first:last]),
        next_cursor=str(last) if last < len(found) else None,
    )


def _number(cursor: str) -> int:
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= LONGEST_CURSOR:
        return int(cursor)
    raise unknown_cursor()


def _absent(caller: Caller, uri: str) -> MCPError:
    code = INVALID_PARAMS if caller.is_modern else RESOURCE_NOT_FOUND
    return MCPError(code=code, message="Resource not found", data={"uri": uri})
