"""Exports spans in the background, counts deliveries, and shuts down in bounded time.

The OTLP exporters get every setting passed explicitly and read none from the environment. That of
each protocol is imported when it is chosen: grpcio takes 20 MiB, and only HTTP needs requests.
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.util.re import parse_env_headers

from perstack.telemetry.settings import OtlpSettings, TelemetrySettings


class ExporterQueue(SpanExporter):
    """One back end with its own queue and worker thread.

    It wraps the exporter to count delivered spans, because the result of the SDK's flush does not
    say it. `name` is the back end in diagnostics, without secrets.
    """

    def __init__(self, name: str, exporter: SpanExporter, settings: TelemetrySettings) -> None:
        self.name = name
        self._exporter = exporter
        self._ended = 0
        self._delivered = 0
        self._batch_processor = BatchSpanProcessor(
            self,
            max_queue_size=max(settings.queue_size, settings.batch_size),
            schedule_delay_millis=settings.schedule_delay_ms,
            max_export_batch_size=settings.batch_size,
            export_timeout_millis=settings.otlp.timeout_seconds * 1000,
        )
        self._shutdown_thread = threading.Thread(target=self._batch_processor.shutdown, daemon=True)

    @property
    def undelivered(self) -> int:
        """Number of ended spans that are not delivered."""
        return self._ended - self._delivered

    def enqueue(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._ended += 1
            self._batch_processor.on_end(span)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self._delivered += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def flush(self) -> None:
        """Export the queue; blocks."""
        self._batch_processor.force_flush()

    def begin_shutdown(self) -> None:
        """Export the rest in the background and accept no more spans."""
        self._shutdown_thread.start()

    def finish_shutdown(self, seconds: float) -> None:
        """Wait at most `seconds`; daemon threads that are left end with the process."""
        self._shutdown_thread.join(max(seconds, 0.0))
        if self._shutdown_thread.is_alive():
            threading.Thread(target=self.shutdown, daemon=True).start()


class RelayProcessor(SpanProcessor):
    """Passes ended spans to the current queues: a provider outlives its engines."""

    def __init__(self) -> None:
        self.queues: tuple[ExporterQueue, ...] = ()

    def on_end(self, span: ReadableSpan) -> None:
        for queue in self.queues:
            queue.enqueue(span)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        for queue in self.queues:
            queue.flush()
        return True


def open_queue(exporter: str, settings: TelemetrySettings) -> ExporterQueue:
    """The queue of `console` or `otlp`.

    Raises:
        OSError: A certificate file cannot be read.
    """
    if exporter == "console":
        # Stdout belongs to the protocol.
        return ExporterQueue("stderr", ConsoleSpanExporter(out=sys.stderr), settings)
    otlp = settings.otlp
    address = urlsplit(otlp.endpoint)
    host = address.netloc.rpartition("@")[2]
    name = f"{address.scheme}://{host}" if host else "an endpoint that is no URL"
    create = _create_grpc_exporter if otlp.protocol == "grpc" else _create_http_exporter
    return ExporterQueue(name, create(otlp), settings)


def _create_http_exporter(otlp: OtlpSettings) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http import Compression  # noqa: PLC0415 - see above
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - see above
        OTLPSpanExporter,
    )

    compressions = {"gzip": Compression.Gzip, "deflate": Compression.Deflate}
    return OTLPSpanExporter(
        endpoint=otlp.endpoint,
        certificate_file=otlp.certificate,
        client_key_file=otlp.client_key,
        client_certificate_file=otlp.client_certificate,
        headers=parse_env_headers(otlp.headers, liberal=True),
        timeout=otlp.timeout_seconds,
        compression=compressions.get(otlp.compression, Compression.NoCompression),
    )


def _create_grpc_exporter(otlp: OtlpSettings) -> SpanExporter:
    import grpc  # noqa: PLC0415 - see above
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - see above
        OTLPSpanExporter,
    )

    credentials = None
    files = (otlp.certificate, otlp.client_key, otlp.client_certificate)
    if not otlp.is_insecure and any(files):
        root, key, chain = (None if file is None else Path(file).read_bytes() for file in files)
        credentials = grpc.ssl_channel_credentials(root, key, chain)
    compressions = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
    return OTLPSpanExporter(
        endpoint=otlp.endpoint,
        insecure=otlp.is_insecure,
        credentials=credentials,
        headers=dict(parse_env_headers(otlp.headers, liberal=True)),
        timeout=otlp.timeout_seconds,
        compression=compressions.get(otlp.compression, grpc.Compression.NoCompression),
    )
