"""OTLP over gRPC, with every setting given and none left to the process's own environment."""

from pathlib import Path

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.re import parse_env_headers

from perstack.telemetry.settings import OtlpSettings

GRPC_COMPRESSIONS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


def create_grpc_exporter(otlp: OtlpSettings) -> SpanExporter:
    """An exporter of spans to `otlp.endpoint`.

    Raises:
        OSError: A certificate file cannot be read.
    """
    return OTLPSpanExporter(
        endpoint=otlp.endpoint,
        insecure=otlp.is_insecure,
        credentials=_grpc_credentials(otlp),
        headers=dict(parse_env_headers(otlp.headers, liberal=True)),
        timeout=otlp.timeout_seconds,
        compression=GRPC_COMPRESSIONS.get(otlp.compression, grpc.Compression.NoCompression),
    )


def _grpc_credentials(otlp: OtlpSettings) -> grpc.ChannelCredentials | None:
    files = (otlp.certificate, otlp.client_key, otlp.client_certificate)
    if otlp.is_insecure or not any(files):
        return None
    root, key, chain = (None if file is None else Path(file).read_bytes() for file in files)
    return grpc.ssl_channel_credentials(root, key, chain)
