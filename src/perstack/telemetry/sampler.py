"""Which spans are recorded: the configured sampler, and a filter for the MCP SDK's spans."""

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind, Tracer
from opentelemetry.util.types import Attributes

from perstack.telemetry import semconv
from perstack.telemetry.settings import McpSpans, TelemetrySettings

MCP_SCOPE = "mcp-python-sdk"
CALL_METHOD = "tools/call"


def head_sampler(settings: TelemetrySettings) -> sampling.Sampler:
    """The sampler that `OTEL_TRACES_SAMPLER` names; an unknown name samples everything."""
    ratio = min(settings.sampler_argument, 1.0)
    match settings.sampler:
        case "always_off":
            return sampling.ALWAYS_OFF
        case "always_on":
            return sampling.ALWAYS_ON
        case "parentbased_always_off":
            return sampling.DEFAULT_OFF
        case "traceidratio":
            return sampling.TraceIdRatioBased(ratio)
        case "parentbased_traceidratio":
            return sampling.ParentBasedTraceIdRatio(ratio)
        case _:
            return sampling.DEFAULT_ON


class FilteringTracer(Tracer):
    """The MCP SDK's tracer without the spans of handshakes, listings and notifications.

    A span that is left out is transparent: its children belong to its parent. A sampler that
    dropped it would leave them without a parent and tell the remote side not to record.

    Args:
        tracer: Creates the spans that are kept.
        mcp_spans: `tools` keeps tool calls, `none` nothing.
    """

    def __init__(self, tracer: Tracer, mcp_spans: McpSpans) -> None:
        self._tracer = tracer
        self._mcp_spans = mcp_spans

    def start_span(
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ) -> Span:
        if self._is_kept(*args, **kwargs):
            return self._tracer.start_span(name, context, *args, **kwargs)
        return NonRecordingSpan(trace.get_current_span(context).get_span_context())

    # The return type is private to the API, so it is left to inference.
    def start_as_current_span(
        self, name: str, context: Context | None = None, *args: Any, **kwargs: Any
    ):
        if self._is_kept(*args, **kwargs):
            return self._tracer.start_as_current_span(name, context, *args, **kwargs)
        return trace.use_span(self.start_span(name, context, *args, **kwargs))

    def _is_kept(
        self,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        *_: Any,
        **__: Any,
    ) -> bool:
        method = (attributes or {}).get(semconv.MCP_METHOD_NAME)
        return self._mcp_spans == "all" or (self._mcp_spans == "tools" and method == CALL_METHOD)
