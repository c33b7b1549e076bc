"""Who sent a request, and what their client supports."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from mcp.server import ServerRequestContext
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp.server.context import CallNext, HandlerResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS, is_version_at_least

from perstack.server.auth import scopes

RequestContext = ServerRequestContext[dict[str, Any]]

LOCAL_PRINCIPAL = "local"
"""The principal of a server without authentication."""

FIRST_VERSION_WITH_RESOURCE_LINKS = "2025-06-18"
"""Clients of older versions reject a whole result that contains a resource link."""

READS_ONE_BODY = "perstack.reads_one_body"
"""In the ASGI scope of a request whose client reads one body and no stream of events."""

TASKS_EXTENSION = "io.modelcontextprotocol/tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request.

    Attributes:
        principal: The owner of the jobs, tasks and resources that the request can reach.
        scopes: What the caller may do; `None` is everything.
        client_name: The client's name for itself, or an empty string.
        is_modern: Whether the protocol version has no sessions (2026-07-28 and later).
        has_tasks: Whether a task may be returned instead of a result.
        has_forms: Whether the client can show a form to its user.
        can_elicit: Whether a question can be sent to the client while its request is open.
        has_links: Whether a result may contain resource links.
    """

    principal: str = LOCAL_PRINCIPAL
    scopes: frozenset[str] | None = None
    client_name: str = ""
    is_modern: bool = False
    has_tasks: bool = False
    has_forms: bool = False
    can_elicit: bool = False
    has_links: bool = True

    def may_run(self, expert_key: str) -> bool:
        """Whether the caller may run an expert; to others the expert does not exist."""
        return self._has_one_of(scopes.RUN, scopes.RUN_PREFIX + expert_key)

    @property
    def may_see_problems(self) -> bool:
        """Whether the caller administers the server, and so may see errors of its definitions."""
        return self._has_one_of()

    @property
    def may_read_jobs(self) -> bool:
        """Whether the caller may read jobs, with results and events, besides calling experts."""
        return self._has_one_of(scopes.RUN, scopes.READ_JOBS)

    @property
    def may_cancel_jobs(self) -> bool:
        """Whether the caller may stop a job other than by cancelling the request for it."""
        return self._has_one_of(scopes.RUN, scopes.CANCEL_JOBS)

    def _has_one_of(self, *candidates: str) -> bool:
        return self.scopes is None or not self.scopes.isdisjoint((scopes.ADMIN, *candidates))


@dataclass(kw_only=True)
class CallerContext(ServerRequestContext[dict[str, Any]]):
    """The context of a request, with its caller."""

    caller: Caller


async def identify_caller(ctx: RequestContext, call_next: CallNext) -> HandlerResult:
    """Middleware that adds the caller to the context, for `caller_of`."""
    return await call_next(CallerContext(**vars(ctx), caller=_build_caller(ctx)))


def caller_of(context: RequestContext) -> Caller:
    """The caller of a request that has passed `identify_caller`."""
    return cast("CallerContext", context).caller


def http_caller() -> Caller:
    """The sender of an HTTP request whose message has not reached the middleware yet."""
    token = get_access_token()
    if token is None:
        return Caller()
    client, issuer, subject = principal_components(token)
    # Verifiers may omit the subject, which then is the client itself; ours reject such a token.
    principal = scopes.principal_id(issuer or "", subject or f"client:{client}")
    return Caller(principal=principal, scopes=frozenset(token.scopes))


def _build_caller(context: RequestContext) -> Caller:
    session = context.session
    capabilities = session.client_capabilities
    client_params = session.client_params
    extensions: Mapping[str, Any] = (capabilities and capabilities.extensions) or {}
    elicitation = capabilities.elicitation if capabilities is not None else None
    # A client that declares elicitation without a mode predates all modes but forms.
    has_forms = elicitation is not None and (
        elicitation.form is not None or elicitation.url is None
    )
    is_modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
    caller = http_caller()
    return replace(
        caller,
        client_name=client_params.client_info.name if client_params is not None else "",
        is_modern=is_modern,
        # A caller that may not read jobs could not read the result of a task either.
        has_tasks=is_modern and TASKS_EXTENSION in extensions and caller.may_read_jobs,
        has_forms=has_forms,
        can_elicit=has_forms
        and not is_modern
        and session.can_send_request
        and not _reads_one_body(context),
        has_links=is_version_at_least(context.protocol_version, FIRST_VERSION_WITH_RESOURCE_LINKS),
    )


def _reads_one_body(context: RequestContext) -> bool:
    request = context.request
    return request is not None and READS_ONE_BODY in request.scope
