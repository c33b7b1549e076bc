"""The SDK's provider as this product sets it up; imported only when telemetry is on."""

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
from perstack.telemetry.delivery import Outlet, Relay
from perstack.telemetry.diagnostics import DiagnosticsHandler
from perstack.telemetry.sampler import MCP_SCOPE, QuietTracer, head_sampler
from perstack.telemetry.settings import McpSpans, OtlpSettings, TelemetrySettings


class PerstackProvider(TracerProvider):
    """A provider that serves all engines of a process, one after the other or at once.

    Args:
        settings: Those of the first engine; they stay for the process.
        transport: How the process is spoken to, for the resource.
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
            # The SDK's own shutdown at exit blocks for as long as a dead collector likes.
            shutdown_on_exit=False,
        )
        self._mcp_spans: McpSpans = settings.mcp_spans
        self._relay = Relay()
        self._users = 0
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
        is_noisy = instrumenting_module_name == MCP_SCOPE
        return QuietTracer(tracer, self._mcp_spans) if is_noisy else tracer

    def join(self, settings: TelemetrySettings) -> None:
        """Another engine uses the provider; the first opens the outlets."""
        if self._users == 0:
            self._relay.outlets = build_outlets(settings)
        self._users += 1

    def leave(self) -> tuple[Outlet, ...]:
        """An engine is done; the last one gets the outlets, to close them."""
        self._users -= 1
        if self._users > 0:
            return ()
        outlets, self._relay.outlets = self._relay.outlets, ()
        return outlets


def joined_provider(settings: TelemetrySettings, transport: str) -> PerstackProvider:
    """The provider of this process, set up if it is not yet."""
    current = trace.get_tracer_provider()
    if not isinstance(current, PerstackProvider):
        current = PerstackProvider(settings, transport)
        trace.set_tracer_provider(current)
    current.join(settings)
    return current


def build_outlets(settings: TelemetrySettings) -> tuple[Outlet, ...]:
    """One outlet for each exporter that the settings name."""
    return tuple(
        Outlet(_name(exporter, settings.otlp), _exporter(exporter, settings.otlp), settings)
        for exporter in settings.exporters
    )


class SdkPipeline:
    """Satisfies the `Pipeline` port on the SDK's provider.

    Args:
        provider: Already joined.
        diagnostics: Tells the user.
    """

    def __init__(self, provider: PerstackProvider, diagnostics: DiagnosticsHandler) -> None:
        self._provider = provider
        self._diagnostics = diagnostics
        self._wanted = threading.Event()
        self._flusher = threading.Thread(target=self._flush_on_demand, daemon=True)
        self._is_stopped = False

    def flush_soon(self) -> None:
        if self._is_stopped:
            return
        self._wanted.set()
        if self._flusher.ident is None:
            self._flusher.start()

    def stop(self, seconds: float) -> None:
        if self._is_stopped:
            return
        self._is_stopped = True
        self._wanted.set()
        deadline = monotonic() + seconds
        outlets = self._provider.leave()
        for outlet in outlets:
            outlet.begin_closing()
        for outlet in outlets:
            outlet.finish_closing(deadline - monotonic())
        for outlet in outlets:
            if outlet.undelivered > 0:
                spans = "1 span" if outlet.undelivered == 1 else f"{outlet.undelivered} spans"
                self._diagnostics.say(f"{spans} could not be delivered to {outlet.name}")
        # Threads that are given up must not write while the interpreter ends.
        self._diagnostics.is_muted = bool(outlets)

    def _flush_on_demand(self) -> None:
        while not self._is_stopped:
            self._wanted.wait()
            self._wanted.clear()
            if not self._is_stopped:
                self._provider.force_flush()


def open_pipeline(
    settings: TelemetrySettings, transport: str, diagnostics: DiagnosticsHandler
) -> SdkPipeline:
    """The pipeline of an engine, on the provider of this process."""
    return SdkPipeline(joined_provider(settings, transport), diagnostics)


def _name(exporter: str, otlp: OtlpSettings) -> str:
    if exporter == "console":
        return "stderr"
    address = urlsplit(otlp.endpoint)
    host = address.netloc.rpartition("@")[2]
    return f"{address.scheme}://{host}" if host else "an endpoint that is no URL"


def _exporter(exporter: str, otlp: OtlpSettings) -> SpanExporter:
    if exporter == "console":
        # Stdout belongs to the protocol.
        return ConsoleSpanExporter(out=sys.stderr)
    if otlp.protocol == "grpc":
        from perstack.telemetry.otlp_grpc import grpc_exporter  # noqa: PLC0415 - grpcio takes 20 MiB

        return grpc_exporter(otlp)
    from perstack.telemetry.otlp_http import http_exporter  # noqa: PLC0415 - only this protocol needs requests

    return http_exporter(otlp)
