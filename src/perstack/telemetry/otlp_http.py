"""OTLP over HTTP, with every setting given and none left to the process's own environment."""

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.re import parse_env_headers

from perstack.telemetry.settings import OtlpSettings

HTTP_COMPRESSIONS = {"gzip": Compression.Gzip, "deflate": Compression.Deflate}


def create_http_exporter(otlp: OtlpSettings) -> SpanExporter:
    """An exporter of spans to `otlp.endpoint`."""
    return OTLPSpanExporter(
        endpoint=otlp.endpoint,
        certificate_file=otlp.certificate,
        client_key_file=otlp.client_key,
        client_certificate_file=otlp.client_certificate,
        headers=parse_env_headers(otlp.headers, liberal=True),
        timeout=otlp.timeout_seconds,
        compression=HTTP_COMPRESSIONS.get(otlp.compression, Compression.NoCompression),
    )
