"""The SDK's tracer provider; imported only when telemetry is enabled."""

import threading
from time import monotonic
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider, sampling
from opentelemetry.trace import NonRecordingSpan, Span, SpanKind, Tracer
from opentelemetry.util.types import Attributes

from perstack import __version__
from perstack.telemetry import semconv
from perstack.telemetry.diagnostics import DiagnosticsHandler
from perstack.telemetry.exporters import ExporterQueue, RelayProcessor, open_queue
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


class PerstackTracerProvider(TracerProvider):
    """One provider for all engines of a process.

    Args:
        settings: Settings of the first engine; they hold for the process.
        transport: A resource attribute: `cli`, `stdio`, `http` or `library`.
    """

    def __init__(self, settings: TelemetrySettings, transport: str) -> None:
        attributes = {
            "service.version": __version__,
            semconv.TRANSPORT: transport,
            **settings.resource,
        }
        super().__init__(
            sampler=head_sampler(settings),
            resource=Resource.create(attributes),
            # The SDK's shutdown at exit blocks for as long as a dead collector does.
            shutdown_on_exit=False,
        )
        self._mcp_spans: McpSpans = settings.mcp_spans
        self._relay = RelayProcessor()
        self._engine_count = 0
        self.add_span_processor(self._relay)

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        tracer = super().get_tracer(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        is_mcp_sdk = instrumenting_module_name == MCP_SCOPE
        return FilteringTracer(tracer, self._mcp_spans) if is_mcp_sdk else tracer

    def acquire(self, settings: TelemetrySettings) -> None:
        """Count an engine; the first one opens the exporters."""
        if self._engine_count == 0:
            self._relay.queues = tuple(open_queue(name, settings) for name in settings.exporters)
        self._engine_count += 1

    def release(self) -> tuple[ExporterQueue, ...]:
        """Discount an engine; the last one gets the exporters, to close them."""
        self._engine_count -= 1
        if self._engine_count > 0:
            return ()
        queues, self._relay.queues = self._relay.queues, ()
        return queues


class SdkPipeline:
    """The export of one engine's spans.

    Args:
        provider: Acquired for this engine.
        diagnostics: Reports undelivered spans.
        shutdown_seconds: How long `stop` may take.
    """

    def __init__(
        self,
        provider: PerstackTracerProvider,
        diagnostics: DiagnosticsHandler,
        shutdown_seconds: float,
    ) -> None:
        self._provider = provider
        self._diagnostics = diagnostics
        self._shutdown_seconds = shutdown_seconds
        self._flush_requested = threading.Event()
        self._flush_thread = threading.Thread(target=self._flush_on_demand, daemon=True)
        self._is_stopped = False

    def flush_soon(self) -> None:
        """Export the queue in the background. Returns at once."""
        if self._is_stopped:
            return
        self._flush_requested.set()
        if self._flush_thread.ident is None:
            self._flush_thread.start()

    def stop(self) -> None:
        """Export the rest and shut down, within `shutdown_seconds`."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._flush_requested.set()
        deadline = monotonic() + self._shutdown_seconds
        queues = self._provider.release()
        for queue in queues:
            queue.begin_shutdown()
        for queue in queues:
            queue.finish_shutdown(deadline - monotonic())
        for queue in queues:
            if queue.undelivered > 0:
                spans = "1 span" if queue.undelivered == 1 else f"{queue.undelivered} spans"
                self._diagnostics.write_line(f"{spans} could not be delivered to {queue.name}")
        # Abandoned threads must not write while the interpreter exits.
        self._diagnostics.is_muted = bool(queues)

    def _flush_on_demand(self) -> None:
        while not self._is_stopped:
            self._flush_requested.wait()
            self._flush_requested.clear()
            if not self._is_stopped:
                self._provider.force_flush()


def open_pipeline(
    settings: TelemetrySettings, transport: str, diagnostics: DiagnosticsHandler
) -> SdkPipeline:
    """A pipeline on the provider of this process, which is created if necessary."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, PerstackTracerProvider):
        provider = PerstackTracerProvider(settings, transport)
        trace.set_tracer_provider(provider)
    provider.acquire(settings)
    return SdkPipeline(provider, diagnostics, settings.shutdown_seconds)
