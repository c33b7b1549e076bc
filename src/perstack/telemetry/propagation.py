"""Trace context of callers and for skills: HTTP headers, environment variables, baggage."""

from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context

from perstack.telemetry import semconv

TRACE_CONTEXT_VARIABLES = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_HTTP_CALLER = context.create_key("perstack-http-caller")


class TraceContextMiddleware:
    """ASGI middleware: requests continue the trace of their `traceparent` header.

    The MCP SDK reads the context in a message's `_meta` only; that one takes precedence, because
    it is the closer parent.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        caller_context = propagate.extract(headers)
        span_context = trace.get_current_span(caller_context).get_span_context()
        token = context.attach(context.set_value(_HTTP_CALLER, span_context, caller_context))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


def annotate_call(*, job_id: str, transport: str, session_id: str | None = None) -> None:
    """Add attributes to the current span, which is the SDK's span of an MCP call.

    `transport` is `pipe` for stdio, `tcp` for HTTP.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attributes({semconv.JOB_ID: job_id, semconv.NETWORK_TRANSPORT: transport})
    if session_id is not None:
        span.set_attribute(semconv.MCP_SESSION_ID, session_id)
    caller_span = context.get_value(_HTTP_CALLER)
    parent = getattr(span, "parent", None)
    if (
        isinstance(caller_span, trace.SpanContext)
        and caller_span.is_valid
        and caller_span != parent
    ):
        span.add_link(caller_span)


def parent_from_environment(environment: Mapping[str, str]) -> Context | None:
    """The parent context in `TRACEPARENT`, `TRACESTATE` and `BAGGAGE`, if it is valid."""
    carrier = {
        name.lower(): environment[name] for name in TRACE_CONTEXT_VARIABLES if name in environment
    }
    if "traceparent" not in carrier:
        return None
    parent = propagate.extract(carrier, context=Context())
    return parent if trace.get_current_span(parent).get_span_context().is_valid else None


@contextmanager
def attach_environment_context(environment: Mapping[str, str]) -> Generator[None]:
    """Use the environment's context as the parent of spans that have no other.

    For processes with one caller (stdio, command line); requests of an HTTP server have their own.
    """
    parent = parent_from_environment(environment)
    if parent is None or trace.get_current_span().get_span_context().is_valid:
        yield
        return
    token = context.attach(parent)
    try:
        yield
    finally:
        context.detach(token)
