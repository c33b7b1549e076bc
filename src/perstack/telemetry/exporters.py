"""Exports spans in the background, counts deliveries, and shuts down in bounded time."""

import threading
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from perstack.telemetry.settings import TelemetrySettings


class CountingExporter(SpanExporter):
    """Counts delivered spans, because the result of the SDK's flush does not say it."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.delivered = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class ExporterQueue:
    """One back end with its own queue and worker thread.

    Args:
        name: The back end in diagnostics, without secrets.
        exporter: Sends spans to it.
        settings: Sizes and delays of the queue.
    """

    def __init__(self, name: str, exporter: SpanExporter, settings: TelemetrySettings) -> None:
        self.name = name
        self._ended = 0
        self._exporter = CountingExporter(exporter)
        self._batch_processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=max(settings.queue_size, settings.batch_size),
            schedule_delay_millis=settings.schedule_delay_ms,
            max_export_batch_size=settings.batch_size,
            export_timeout_millis=settings.otlp.timeout_seconds * 1000,
        )
        self._shutdown_thread = threading.Thread(target=self._batch_processor.shutdown, daemon=True)

    @property
    def undelivered(self) -> int:
        """Number of ended spans that are not delivered."""
        return self._ended - self._exporter.delivered

    def enqueue(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._ended += 1
            self._batch_processor.on_end(span)

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
            threading.Thread(target=self._exporter.shutdown, daemon=True).start()


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
