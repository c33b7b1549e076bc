"""What the variables of the environment mean."""

import pytest

from perstack.redaction import environment_secrets
from perstack.telemetry.settings import read_settings

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/v1/metrics"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, False),
        ({"PERSTACK_OTEL": "on"}, True),
        ({"PERSTACK_OTEL": "off", **ENDPOINT}, False),
        ({"OTEL_SDK_DISABLED": "true", "PERSTACK_OTEL": "on"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "  "}, False),
    ],
)
def test_telemetry_is_on_when_somebody_wants_it(environment: dict[str, str], is_on: bool) -> None:
    assert read_settings(environment).is_enabled is is_on


def test_the_defaults_are_those_of_short_lived_processes() -> None:
    settings = read_settings({"PERSTACK_OTEL": "on"})

    assert settings.exporters == ("otlp",)
    assert settings.otlp.protocol == "http/protobuf"
    assert settings.otlp.endpoint == "http://localhost:4318/v1/traces"
    assert settings.otlp.timeout_seconds == 2.0
    assert settings.schedule_delay_ms == 1000
    assert settings.shutdown_seconds == 1.5
    assert settings.captures_content is False
    assert settings.problems == ()


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/base/"}, "http://c:1/base/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/own"}, "http://c:1/own"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT}, "http://127.0.0.1:4318"),
    ],
)
def test_the_endpoint_follows_the_specification(environment: dict[str, str], endpoint: str) -> None:
    assert read_settings(environment).otlp.endpoint == endpoint


def test_several_exporters_are_named_in_a_list() -> None:
    settings = read_settings({"OTEL_TRACES_EXPORTER": "otlp, console,otlp"})

    assert settings.exporters == ("otlp", "console")


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "perstack"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a%20b,team=x"}, "a b"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"}, "b"),
    ],
)
def test_the_name_of_the_service_can_be_given(environment: dict[str, str], name: str) -> None:
    assert read_settings(environment).resource["service.name"] == name


@pytest.mark.parametrize(
    ("mode", "captures"),
    [
        ("SPAN_ONLY", True),
        ("SPAN_AND_EVENT", True),
        ("true", True),
        ("EVENT_ONLY", False),
        ("NO_CONTENT", False),
        ("false", False),
    ],
)
def test_content_is_captured_in_the_modes_that_put_it_on_spans(mode: str, captures: bool) -> None:
    environment = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": mode}

    settings = read_settings(environment)

    assert settings.captures_content is captures
    assert settings.batch_size == (64 if captures else 512)


@pytest.mark.parametrize(
    "environment",
    [
        {"PERSTACK_OTEL": "perhaps"},
        {"OTEL_TRACES_EXPORTER": "zipkin"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"},
        {"OTEL_BSP_SCHEDULE_DELAY": "-1"},
        {"PERSTACK_OTEL_MAX_CONTENT": "0"},
        {"PERSTACK_OTEL_MCP_SPANS": "some"},
        {"OTEL_CONFIG_FILE": "otel.yaml"},
    ],
)
def test_a_value_that_is_not_understood_is_named_and_replaced(environment: dict[str, str]) -> None:
    (problem,) = read_settings(environment).problems

    assert next(iter(environment)) in problem


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    environment = {
        "OPENAI_API_KEY": "key-1",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20t0ken,x-team=red",
        "MAX_TOKENS": "128000",
        "HOME": "/home/someone",
    }

    assert environment_secrets(environment) == [
        "key-1",
        "authorization=Bearer%20t0ken,x-team=red",
        "Bearer t0ken",
        "red",
        "t0ken",
        "red",
    ]
