"""OTLP exporters with every setting passed explicitly, none read from the environment.

Each protocol's exporter is imported when it is chosen: grpcio takes 20 MiB, and only HTTP needs
requests.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.util.re import parse_env_headers

from perstack.telemetry.settings import OtlpSettings

if TYPE_CHECKING:
    import grpc


def create_http_exporter(otlp: OtlpSettings) -> SpanExporter:
    """An exporter of spans to `otlp.endpoint` over HTTP."""
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


def create_grpc_exporter(otlp: OtlpSettings) -> SpanExporter:
    """An exporter of spans to `otlp.endpoint` over gRPC.

    Raises:
        OSError: A certificate file cannot be read.
    """
    import grpc  # noqa: PLC0415 - see above
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - see above
        OTLPSpanExporter,
    )

    compressions = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
    return OTLPSpanExporter(
        endpoint=otlp.endpoint,
        insecure=otlp.is_insecure,
        credentials=_grpc_credentials(otlp),
        headers=dict(parse_env_headers(otlp.headers, liberal=True)),
        timeout=otlp.timeout_seconds,
        compression=compressions.get(otlp.compression, grpc.Compression.NoCompression),
    )


def _grpc_credentials(otlp: OtlpSettings) -> "grpc.ChannelCredentials | None":
    import grpc  # noqa: PLC0415 - see above

    files = (otlp.certificate, otlp.client_key, otlp.client_certificate)
    if otlp.is_insecure or not any(files):
        return None
    root, key, chain = (None if file is None else Path(file).read_bytes() for file in files)
    return grpc.ssl_channel_credentials(root, key, chain)
