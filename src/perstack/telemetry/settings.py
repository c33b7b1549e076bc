"""Telemetry settings from environment variables; operators own them, not `perstack.toml`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar, cast
from urllib.parse import unquote

from perstack.telemetry.content import DEFAULT_CONTENT_LIMIT

TRUE_VALUES = frozenset({"1", "on", "true", "yes"})
EXPORTERS = ("otlp", "console", "none")
PROTOCOLS = ("http/protobuf", "grpc")
CAPTURE_MODES = ("no_content", "span_only", "event_only", "span_and_event", "true", "false")
CAPTURES_ON_SPANS = frozenset({"span_only", "span_and_event", "true"})
MCP_SPAN_MODES = ("tools", "all", "none")

McpSpans = Literal["tools", "all", "none"]
Value = TypeVar("Value", int, float)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpSettings:
    """`headers` has the form of the variable; `timeout_seconds` is for one batch."""

    protocol: str
    endpoint: str
    headers: str
    compression: str
    timeout_seconds: float
    certificate: str | None
    client_key: str | None
    client_certificate: str | None
    is_insecure: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """`problems` names the values that are invalid and replaced by a default."""

    is_disabled: bool
    exporters: tuple[str, ...]
    otlp: OtlpSettings
    resource: dict[str, str]
    sampler: str
    sampler_argument: float
    schedule_delay_ms: int
    queue_size: int
    batch_size: int
    shutdown_seconds: float
    captures_content: bool
    max_content: int
    mcp_spans: McpSpans
    keeps_baggage: bool
    problems: tuple[str, ...] = ()

    @property
    def is_enabled(self) -> bool:
        return not self.is_disabled and bool(self.exporters)


def read_settings(environment: Mapping[str, str]) -> TelemetrySettings:
    reader = _EnvironmentReader(environment)
    capture_mode = reader.choice(
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", CAPTURE_MODES, "no_content"
    )
    captures_content = capture_mode in CAPTURES_ON_SPANS
    mcp_spans = reader.choice("PERSTACK_OTEL_MCP_SPANS", MCP_SPAN_MODES, "tools")
    return TelemetrySettings(
        is_disabled=reader.is_disabled(),
        exporters=reader.exporters(),
        otlp=reader.otlp(),
        resource=reader.resource(),
        sampler=reader.text("OTEL_TRACES_SAMPLER", "parentbased_always_on").lower(),
        sampler_argument=reader.number("OTEL_TRACES_SAMPLER_ARG", 1.0, float),
        # The specified 5 s suit long-lived services; runs are short and watched.
        schedule_delay_ms=reader.number("OTEL_BSP_SCHEDULE_DELAY", 1000, int),
        queue_size=reader.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, int),
        # Spans with content are large, and a batch over the receiver's limit is lost whole.
        batch_size=reader.number(
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 64 if captures_content else 512, int
        ),
        shutdown_seconds=reader.number("PERSTACK_OTEL_SHUTDOWN_TIMEOUT", 1.5, float),
        captures_content=captures_content,
        max_content=reader.number("PERSTACK_OTEL_MAX_CONTENT", DEFAULT_CONTENT_LIMIT, int),
        mcp_spans=cast("McpSpans", mcp_spans),
        keeps_baggage=reader.text("PERSTACK_OTEL_BAGGAGE_TO_SKILLS", "off").lower() in TRUE_VALUES,
        problems=reader.all_problems(),
    )


class _EnvironmentReader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def text(self, name: str, default: str) -> str:
        # The specification treats an empty variable like an absent one.
        return self._environment.get(name, "").strip() or default

    def number(self, name: str, default: Value, parse: Callable[[str], Value]) -> Value:
        raw = self.text(name, "")
        try:
            number = parse(raw) if raw else default
        except ValueError:
            number = None
        # Counts, delays and sizes of zero or less have no meaning, except a sampling ratio of zero.
        is_in_range = not raw or name == "OTEL_TRACES_SAMPLER_ARG" or (number or 0) > 0
        if number is None or not math.isfinite(number) or not is_in_range:
            self.problems.append(f"{name} must be a positive number; using {default}")
            return default
        return number

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        raw = self.text(name, default).lower()
        if raw in choices:
            return raw
        self.problems.append(f"{name} must be one of {', '.join(choices)}; using {default}")
        return default

    def all_problems(self) -> tuple[str, ...]:
        if self.text("OTEL_CONFIG_FILE", ""):
            self.problems.append(
                "OTEL_CONFIG_FILE is not read; use the OTEL_EXPORTER_OTLP_ variables"
            )
        return tuple(dict.fromkeys(self.problems))

    def is_disabled(self) -> bool:
        mode = self.choice("PERSTACK_OTEL", ("auto", "on", "off"), "auto")
        return mode == "off" or self.text("OTEL_SDK_DISABLED", "false").lower() == "true"

    def exporters(self) -> tuple[str, ...]:
        names = self.text("OTEL_TRACES_EXPORTER", "").lower()
        if not names:
            is_on = self.text("PERSTACK_OTEL", "auto").lower() == "on"
            return ("otlp",) if is_on or self.otlp_text("ENDPOINT", "") else ()
        exporters = [name.strip() for name in names.split(",")]
        if not set(exporters) <= set(EXPORTERS):
            self.problems.append(
                f"OTEL_TRACES_EXPORTER takes {', '.join(EXPORTERS)}; the rest is ignored"
            )
        return tuple(
            dict.fromkeys(name for name in exporters if name in EXPORTERS and name != "none")
        )

    def otlp_variable(self, name: str) -> str:
        """The variable for traces if it is set, else the one for all signals."""
        specific = f"OTEL_EXPORTER_OTLP_TRACES_{name}"
        return specific if self.text(specific, "") else f"OTEL_EXPORTER_OTLP_{name}"

    def otlp_text(self, name: str, default: str) -> str:
        return self.text(self.otlp_variable(name), default)

    def otlp(self) -> OtlpSettings:
        protocol = self.choice(self.otlp_variable("PROTOCOL"), PROTOCOLS, PROTOCOLS[0])
        insecure = self.otlp_text("INSECURE", "")
        return OtlpSettings(
            protocol=protocol,
            endpoint=self._endpoint(protocol),
            headers=self.otlp_text("HEADERS", ""),
            compression=self.otlp_text("COMPRESSION", "none").lower(),
            # The specified 10 s would let a dead collector delay the exit.
            timeout_seconds=self.number(self.otlp_variable("TIMEOUT"), 2.0, float),
            certificate=self.otlp_text("CERTIFICATE", "") or None,
            client_key=self.otlp_text("CLIENT_KEY", "") or None,
            client_certificate=self.otlp_text("CLIENT_CERTIFICATE", "") or None,
            is_insecure=insecure.lower() == "true" if insecure else None,
        )

    def _endpoint(self, protocol: str) -> str:
        # A signal's own endpoint is used as it is; over HTTP the general one is a base URL.
        if traces_endpoint := self.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", ""):
            return traces_endpoint
        if protocol == "grpc":
            return self.text("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
        base = self.text("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318")
        return f"{base.removesuffix('/')}/v1/traces"

    def resource(self) -> dict[str, str]:
        # `OTEL_SERVICE_NAME` takes precedence over the list, the list over the default name.
        attributes: dict[str, str] = {"service.name": "perstack"}
        for pair in self.text("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
            key, separator, value = pair.partition("=")
            if separator:
                attributes[key.strip()] = unquote(value.strip())
        if name := self.text("OTEL_SERVICE_NAME", ""):
            attributes["service.name"] = name
        return attributes
