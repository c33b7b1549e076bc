"""The examples in `otel/` say what is true."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from perstack.telemetry import semconv

OTEL = Path(__file__).parents[2] / "otel"
COMPOSE_FILES = sorted(OTEL.glob("docker-compose.*.yml"))
PERSTACK_VARIABLES = frozenset(
    {
        "PERSTACK_OTEL",
        "PERSTACK_OTEL_BAGGAGE_TO_SKILLS",
        "PERSTACK_OTEL_MAX_CONTENT",
        "PERSTACK_OTEL_MCP_SPANS",
        "PERSTACK_OTEL_SHUTDOWN_TIMEOUT",
    }
)
STANDARD_VARIABLES = frozenset(
    {
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "OTEL_BSP_SCHEDULE_DELAY",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        "OTEL_EXPORTER_OTLP_COMPRESSION",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_EXPORTER_OTLP_INSECURE",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_SDK_DISABLED",
        "OTEL_SERVICE_NAME",
        "OTEL_TRACES_EXPORTER",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_SAMPLER_ARG",
    }
)
"""The specification's variables that are read here; those of OTLP also in their `_TRACES_` form."""
VARIABLES = PERSTACK_VARIABLES | STANDARD_VARIABLES


def parsed(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_containers_are_pinned_and_reachable_from_this_machine_only(path: Path) -> None:
    services: dict[str, Any] = parsed(path)["services"]

    for service in services.values():
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", service["image"])
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        published = {port.split(":")[1] for port in service["ports"]}
        assert {"4317", "4318"} <= published


def test_the_collector_listens_on_this_machine_and_uses_what_it_declares() -> None:
    config = parsed(OTEL / "collector.yaml")

    protocols = config["receivers"]["otlp"]["protocols"]
    assert protocols["grpc"]["endpoint"] == "127.0.0.1:4317"
    assert protocols["http"]["endpoint"] == "127.0.0.1:4318"
    pipeline = config["service"]["pipelines"]["traces"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(config[kind])


def test_the_collector_takes_out_every_attribute_of_content() -> None:
    processors = parsed(OTEL / "collector.yaml")["processors"]
    actions = processors["attributes/without_content"]["actions"]

    assert {action["key"] for action in actions} == {
        semconv.SYSTEM_INSTRUCTIONS,
        semconv.INPUT_MESSAGES,
        semconv.OUTPUT_MESSAGES,
        semconv.TOOL_CALL_ARGUMENTS,
        semconv.TOOL_CALL_RESULT,
    }


def test_every_variable_of_the_example_is_read() -> None:
    lines = (OTEL / "env.example").read_text(encoding="utf-8").splitlines()
    named = {match[1] for line in lines if (match := re.match(r"#?([A-Z][A-Z_]+)=", line))}

    assert named <= VARIABLES
    assert named >= PERSTACK_VARIABLES


def test_the_readme_names_only_variables_and_files_that_exist() -> None:
    text = (OTEL / "README.md").read_text(encoding="utf-8")

    named = set(re.findall(r"\b(?:PERSTACK_OTEL|OTEL)[A-Z_]*\b", text))
    assert named <= VARIABLES
    files = re.findall(r"otel/([\w.-]+)|\]\(([\w.-]+)\)", text)
    assert all((OTEL / (first or second)).is_file() for first, second in files)
