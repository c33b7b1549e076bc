"""Telemetry of a process: the environment switches it on, a host's own is respected."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from opentelemetry import trace

from perstack.redaction import Redactor, environment_secrets
from perstack.runtime.telemetry_port import Telemetry
from perstack.telemetry.content import ContentCapture
from perstack.telemetry.diagnostics import DiagnosticsHandler, route_sdk_logging
from perstack.telemetry.otel import OtelTelemetry, get_perstack_tracer
from perstack.telemetry.propagation import parent_from_environment
from perstack.telemetry.settings import TelemetrySettings, read_settings


class Pipeline(Protocol):
    """Where ended spans go."""

    def flush_soon(self) -> None:
        """Send what is queued now instead of a second later. Returns at once."""
        ...

    def stop(self, seconds: float) -> None:
        """Send the rest and end; what takes longer than `seconds` is given up."""
        ...


@dataclass(frozen=True, slots=True)
class TelemetryHandle:
    """The telemetry of one engine; `pipeline` is None where perstack itself exports nothing."""

    telemetry: Telemetry
    redactor: Redactor
    pipeline: Pipeline | None = None
    shutdown_seconds: float = 1.5

    def flush_soon(self) -> None:
        """Send what is queued without waiting for it; to be called at the end of each job."""
        if self.pipeline is not None:
            self.pipeline.flush_soon()

    def stop(self, budget_seconds: float | None = None) -> None:
        """Send what is left and end. Blocks for `budget_seconds`, or as the environment says."""
        if self.pipeline is not None:
            self.pipeline.stop(self.shutdown_seconds if budget_seconds is None else budget_seconds)


def configure_telemetry(environment: Mapping[str, str], *, transport: str) -> TelemetryHandle:
    """Telemetry as `environment` wants it. Never raises: what is wrong is said on stderr.

    The OpenTelemetry SDK is imported only if the environment switches telemetry on and the process
    has no provider yet. A provider that a host application has set is used as it is, and neither
    changed nor shut down.

    Args:
        environment: The process's variables and those of the `.env` files.
        transport: How the process is spoken to: `cli`, `stdio`, `http` or `library`.
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
        # Requests of an HTTP server have callers of their own; whoever started it is not one.
        fallback_parent=None if transport == "http" else parent_from_environment(environment),
        keeps_baggage=settings.keeps_baggage,
    )
    return TelemetryHandle(telemetry, redactor, pipeline, settings.shutdown_seconds)


def _try_open_pipeline(
    settings: TelemetrySettings, transport: str, diagnostics: DiagnosticsHandler
) -> Pipeline | None:
    from perstack.telemetry.provider import open_pipeline  # noqa: PLC0415 - imports the SDK, which takes 100 ms

    try:
        return open_pipeline(settings, transport, diagnostics)
    except Exception as error:  # noqa: BLE001 - exporters raise anything, and no run may fail for it
        diagnostics.write_line(
            f"is off, because it cannot be set up: {type(error).__name__}: {error}"
        )
        return None


def _has_host_provider() -> bool:
    """Whether somebody else has set a provider; one that an earlier engine set is ours."""
    provider = trace.get_tracer_provider()
    is_ours = type(provider).__module__.startswith("perstack.")
    return not is_ours and not isinstance(provider, trace.ProxyTracerProvider)


def _endpoint_secrets(settings: TelemetrySettings) -> list[str]:
    address = urlsplit(settings.otlp.endpoint)
    values = [value.partition("=")[2] for value in address.query.split("&")]
    password = unquote(address.password or "")
    return [secret for secret in (password, *values) if secret]
