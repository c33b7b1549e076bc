"""The SDK's tracer provider; imported only when telemetry is enabled."""

import sys
import threading
from time import monotonic
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Tracer
from opentelemetry.util.types import Attributes

from perstack import __version__
from perstack.telemetry import semconv
from perstack.telemetry.diagnostics import DiagnosticsHandler
from perstack.telemetry.exporters import ExporterQueue, RelayProcessor
from perstack.telemetry.otlp import create_grpc_exporter, create_http_exporter
from perstack.telemetry.sampler import MCP_SCOPE, FilteringTracer, head_sampler
from perstack.telemetry.settings import McpSpans, OtlpSettings, TelemetrySettings


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
            self._relay.queues = create_exporter_queues(settings)
        self._engine_count += 1

    def release(self) -> tuple[ExporterQueue, ...]:
        """Discount an engine; the last one gets the exporters, to close them."""
        self._engine_count -= 1
        if self._engine_count > 0:
            return ()
        queues, self._relay.queues = self._relay.queues, ()
        return queues


def acquire_provider(settings: TelemetrySettings, transport: str) -> PerstackTracerProvider:
    """The provider of this process, created if necessary."""
    current = trace.get_tracer_provider()
    if not isinstance(current, PerstackTracerProvider):
        current = PerstackTracerProvider(settings, transport)
        trace.set_tracer_provider(current)
    current.acquire(settings)
    return current


def create_exporter_queues(settings: TelemetrySettings) -> tuple[ExporterQueue, ...]:
    return tuple(
        ExporterQueue(
            _exporter_label(exporter, settings.otlp),
            _create_exporter(exporter, settings.otlp),
            settings,
        )
        for exporter in settings.exporters
    )


class SdkPipeline:
    """The export of one engine's spans.

    Args:
        provider: Acquired for this engine.
        diagnostics: Reports undelivered spans.
    """

    def __init__(self, provider: PerstackTracerProvider, diagnostics: DiagnosticsHandler) -> None:
        self._provider = provider
        self._diagnostics = diagnostics
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

    def stop(self, seconds: float) -> None:
        """Export the rest within `seconds` and shut down."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._flush_requested.set()
        deadline = monotonic() + seconds
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
    return SdkPipeline(acquire_provider(settings, transport), diagnostics)


def _exporter_label(exporter: str, otlp: OtlpSettings) -> str:
    if exporter == "console":
        return "stderr"
    address = urlsplit(otlp.endpoint)
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host}" if host else "an endpoint that is no URL"


def _create_exporter(exporter: str, otlp: OtlpSettings) -> SpanExporter:
    if exporter == "console":
        # Stdout belongs to the protocol.
        return ConsoleSpanExporter(out=sys.stderr)
    return create_grpc_exporter(otlp) if otlp.protocol == "grpc" else create_http_exporter(otlp)
