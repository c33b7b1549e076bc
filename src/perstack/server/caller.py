"""Who calls, and what their client can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server import ServerRequestContext
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp_types.version import MODERN_PROTOCOL_VERSIONS, is_version_at_least

from perstack.server.auth import scopes
from perstack.server.auth.scopes import principal_id

RequestContext = ServerRequestContext[dict[str, Any]]

LOCAL_PRINCIPAL = "local"
"""The principal of a server that asks nobody who they are."""

FIRST_VERSION_WITH_RESOURCE_LINKS = "2025-06-18"
"""Clients of before refuse a whole result that has a link in it."""

TASKS_EXTENSION = "io.modelcontextprotocol/tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One request's caller.

    Attributes:
        principal: Whose jobs these are; every job, task and resource belongs to one.
        scopes: What the caller may do; `None` is everything.
        client_name: What the client calls itself, or an empty string.
        is_modern: Whether the request is of the era without sessions (2026-07-28 and later).
        has_tasks: Whether it takes a task for a result.
        has_forms: Whether it can show a form to its user.
        can_elicit: Whether a question can be sent to it while its request is open.
        has_links: Whether a result may have links to resources.
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
        """Whether they may call the expert; one that they may not call does not exist to them."""
        return scopes.may_run(self.scopes, expert_key)

    @property
    def may_see_problems(self) -> bool:
        """Whether they look after the server: they may know what is wrong with its definitions."""
        return scopes.has_all_scopes(self.scopes)

    @property
    def may_read_jobs(self) -> bool:
        """Whether they may see jobs, with results and events, other than by calling an expert."""
        return scopes.may_read_jobs(self.scopes)

    @property
    def may_cancel_jobs(self) -> bool:
        """Whether they may stop a job other than by cancelling their own request."""
        return scopes.may_cancel_jobs(self.scopes)


def caller_of(context: RequestContext) -> Caller:
    session = context.session
    capabilities = session.client_capabilities
    client_params = session.client_params
    extensions: Mapping[str, Any] = (capabilities and capabilities.extensions) or {}
    elicitation = capabilities.elicitation if capabilities is not None else None
    # A client that declares elicitation and no mode is of the time when forms were the only one.
    has_forms = elicitation is not None and (
        elicitation.form is not None or elicitation.url is None
    )
    is_modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
    principal, granted_scopes = _identity()
    # Whoever may not see jobs could not collect what a task has become.
    has_tasks = TASKS_EXTENSION in extensions and scopes.may_read_jobs(granted_scopes)
    return Caller(
        principal=principal,
        scopes=granted_scopes,
        client_name=client_params.client_info.name if client_params is not None else "",
        is_modern=is_modern,
        has_tasks=is_modern and has_tasks,
        has_forms=has_forms,
        can_elicit=has_forms and not is_modern and session.can_send_request,
        has_links=is_version_at_least(context.protocol_version, FIRST_VERSION_WITH_RESOURCE_LINKS),
    )


def http_caller() -> Caller:
    """Whoever sent the HTTP request whose message has not been handled yet."""
    principal, granted_scopes = _identity()
    return Caller(principal=principal, scopes=granted_scopes)


def _identity() -> tuple[str, frozenset[str] | None]:
    token = get_access_token()
    if token is None:
        return LOCAL_PRINCIPAL, None
    client, issuer, subject = principal_components(token)
    # A verifier that names no subject speaks of the client itself; ours refuse such a token.
    return principal_id(issuer or "", subject or f"client:{client}"), frozenset(token.scopes)
