"""Configures telemetry from the environment; a host's tracer provider is left alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from opentelemetry import trace

from perstack.redaction import Redactor, environment_secrets
from perstack.runtime.telemetry_port import Telemetry
from perstack.telemetry.content import ContentCapture
from perstack.telemetry.diagnostics import DiagnosticsHandler, route_sdk_logging
from perstack.telemetry.otel import OtelTelemetry, get_perstack_tracer
from perstack.telemetry.propagation import parent_from_environment
from perstack.telemetry.settings import TelemetrySettings, read_settings

if TYPE_CHECKING:
    from perstack.telemetry.provider import SdkPipeline


@dataclass(frozen=True, slots=True)
class TelemetryHandle:
    """The telemetry of one engine; `pipeline` is `None` where perstack exports nothing itself."""

    telemetry: Telemetry
    pipeline: "SdkPipeline | None" = None

    def flush_soon(self) -> None:
        """Export queued spans in the background; called at the end of each job."""
        if self.pipeline is not None:
            self.pipeline.flush_soon()

    def stop(self) -> None:
        """Export the rest and shut down, within the configured time."""
        if self.pipeline is not None:
            self.pipeline.stop()


def configure_telemetry(environment: Mapping[str, str], *, transport: str) -> TelemetryHandle:
    """Telemetry as `environment` configures it. Never raises: problems are reported on stderr.

    The OpenTelemetry SDK is imported only if telemetry is enabled and the process has no provider.
    A provider that a host application has set is used, and neither changed nor shut down.

    Args:
        environment: The process's variables and those of the `.env` files.
        transport: `cli`, `stdio`, `http` or `library`.
    """
    settings = read_settings(environment)
    redactor = Redactor(environment_secrets(environment))
    redactor.add(_endpoint_secrets(settings))
    diagnostics = DiagnosticsHandler(redactor)
    for problem in settings.problems:
        diagnostics.write_line(problem)
    pipeline = None
    if settings.is_enabled and not _has_host_provider():
        route_sdk_logging(diagnostics, is_embedded=transport == "library")
        pipeline = _try_open_pipeline(settings, transport, diagnostics)
    telemetry = OtelTelemetry(
        trace.NoOpTracer() if settings.is_disabled else get_perstack_tracer(),
        redactor=redactor,
        capture=ContentCapture(settings.max_content, redactor)
        if settings.captures_content
        else None,
        environment=environment,
        # Requests of an HTTP server have their own parents.
        fallback_parent=None if transport == "http" else parent_from_environment(environment),
        keeps_baggage=settings.keeps_baggage,
    )
    return TelemetryHandle(telemetry, pipeline)


def _try_open_pipeline(
    settings: TelemetrySettings, transport: str, diagnostics: DiagnosticsHandler
) -> "SdkPipeline | None":
    from perstack.telemetry.provider import open_pipeline  # noqa: PLC0415 - imports the SDK, which takes 100 ms

    try:
        return open_pipeline(settings, transport, diagnostics)
    except Exception as error:  # noqa: BLE001 - exporters raise anything, and telemetry must not fail a run
        diagnostics.write_line(
            f"is off, because it cannot be set up: {type(error).__name__}: {error}"
        )
        return None


def _has_host_provider() -> bool:
    """Whether the host has set a provider; one set by an earlier engine is perstack's own."""
    provider = trace.get_tracer_provider()
    is_ours = type(provider).__module__.startswith("perstack.")
    return not is_ours and not isinstance(provider, trace.ProxyTracerProvider)


def _endpoint_secrets(settings: TelemetrySettings) -> list[str]:
    address = urlsplit(settings.otlp.endpoint)
    values = [value.partition("=")[2] for value in address.query.split("&")]
    password = unquote(address.password or "")
    return [secret for secret in (password, *values) if secret]
