"""Telemetry in processes: silent where it must be, quick at the end, and real on the wire."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from perstack.telemetry.setup import configure_telemetry
from tests.telemetry.driver import Driver, a_checkpoint
from tests.telemetry.grpc_collector import collecting_over_grpc

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
SDK = ("opentelemetry.sdk", "opentelemetry.exporter", "requests", "grpc")
SPANS_OF_A_RUN = 6


@dataclass(frozen=True)
class Outcome:
    stdout: str
    stderr: str
    modules: list[str]
    hosted: list[str]
    seconds_to_exit: float


def export(folder: Path, *, transport: str = "stdio", runs: int = 1, **environment: str) -> Outcome:
    """Plays runs in a process of their own, whose environment has nothing else of telemetry."""
    report = folder / "report.json"
    kept = {name: value for name, value in os.environ.items() if "OTEL" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "tests.telemetry.exporting", str(report), transport, str(runs)],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
    )
    ended = monotonic()
    content: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return Outcome(
        done.stdout,
        done.stderr,
        content["modules"],
        content["hosted"],
        ended - content["began"],
    )


@pytest.fixture
def refused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def hanging_port() -> Generator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("environment", [{}, {"PERSTACK_OTEL": "off"}])
def test_telemetry_that_is_off_loads_no_sdk_and_says_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    outcome = export(tmp_path, transport="stdio", runs=1, **environment)

    assert (outcome.stdout, outcome.stderr) == ("", "")
    assert [name for name in outcome.modules if name.startswith(SDK)] == []


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("port", ["refused_port", "hanging_port"])
def test_a_dead_collector_does_not_hold_up_the_end(
    port: str, protocol: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    number: int = request.getfixturevalue(port)

    outcome = export(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://someone:pa55word@127.0.0.1:{number}?key=canary-query",
        OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
    )

    # Unbounded, the exporter's own retries would take at least 7.6 seconds.
    assert outcome.seconds_to_exit < 6
    assert outcome.stdout == ""
    lines = outcome.stderr.splitlines()
    assert lines[-1] == (
        f"perstack: telemetry: {SPANS_OF_A_RUN} spans could not be delivered"
        f" to http://127.0.0.1:{number}"
    )
    assert len(lines) <= 3
    assert "pa55word" not in outcome.stderr
    assert "canary" not in outcome.stderr


def test_the_console_exporter_writes_to_stderr(tmp_path: Path) -> None:
    outcome = export(tmp_path, OTEL_TRACES_EXPORTER="console")

    assert outcome.stdout == ""
    assert '"name": "invoke_agent planner0"' in outcome.stderr
    assert '"service.name": "perstack"' in outcome.stderr
    assert '"perstack.transport": "stdio"' in outcome.stderr
    assert "canary" not in outcome.stderr


def test_the_provider_of_a_host_is_used_and_left_alone(tmp_path: Path, refused_port: int) -> None:
    outcome = export(
        tmp_path,
        transport="library",
        HOSTED="yes",
        OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{refused_port}",
    )

    assert outcome.hosted[-2:] == ["invoke_agent planner0", "after the engine"]
    assert outcome.stderr == ""
    assert "opentelemetry.exporter" not in outcome.modules


def test_an_exporter_that_cannot_be_set_up_stops_nobody(tmp_path: Path) -> None:
    outcome = export(
        tmp_path,
        OTEL_EXPORTER_OTLP_ENDPOINT="https://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        OTEL_EXPORTER_OTLP_CERTIFICATE="absent.pem",
    )

    assert outcome.stderr.startswith("perstack: telemetry: is off, because it cannot be set up")
    assert len(outcome.stderr.splitlines()) == 1


async def received(
    port: int, folder: Path, *, runs: int = 1, **environment: str
) -> tuple[list[Span], Outcome]:
    """The spans that a real receiver gets from a process that plays `runs` runs."""
    settings = OtelTapHttpProtobufReceiverSettings(http_port=port)
    spans: list[Span] = []
    outcomes: list[Outcome] = []

    async def collect(receiver: OtelTapHttpProtobufReceiver) -> None:
        async for span in receiver.stream_traces():
            spans.append(span)
            if len(spans) == SPANS_OF_A_RUN * runs:
                return

    endpoint = f"http://127.0.0.1:{port}"
    with anyio.fail_after(30):
        async with (
            OtelTapHttpProtobufReceiver(settings) as receiver,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(collect, receiver)
            outcomes.append(
                await anyio.to_thread.run_sync(
                    lambda: export(
                        folder,
                        transport="stdio",
                        runs=runs,
                        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
                        **environment,
                    )
                )
            )
    return spans, outcomes[0]


async def test_a_real_receiver_gets_the_whole_tree(refused_port: int, tmp_path: Path) -> None:
    spans, outcome = await received(
        refused_port, tmp_path, SOME_API_KEY="canary-of-the-key", OTEL_SERVICE_NAME="trips"
    )

    assert (outcome.stdout, outcome.stderr) == ("", "")
    (root,) = [span for span in spans if not span.parent_span_id]
    assert root.name == "invoke_agent planner0"
    known = {span.span_id for span in spans}
    assert all(span.parent_span_id in known for span in spans if span is not root)
    assert {span.trace_id for span in spans} == {root.trace_id}
    assert b"canary" not in b"".join(span.SerializeToString() for span in spans)


def test_a_receiver_of_grpc_gets_all_spans(refused_port: int, tmp_path: Path) -> None:
    with collecting_over_grpc(refused_port) as spans:
        outcome = export(
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{refused_port}",
            OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
        )

    assert (outcome.stdout, outcome.stderr) == ("", "")
    assert len(spans) == SPANS_OF_A_RUN


async def test_content_on_the_wire_has_no_secrets(refused_port: int, tmp_path: Path) -> None:
    spans, _ = await received(
        refused_port,
        tmp_path,
        SOME_API_KEY="canary-of-the-key",
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="SPAN_ONLY",
    )

    wire = b"".join(span.SerializeToString() for span in spans)
    assert b"canary-of-the-user" in wire
    assert b"canary-of-the-key" not in wire


async def test_engines_one_after_the_other_all_export(refused_port: int, tmp_path: Path) -> None:
    spans, outcome = await received(refused_port, tmp_path, runs=2)

    roots = [span.name for span in spans if not span.parent_span_id]
    assert roots == ["invoke_agent planner0", "invoke_agent planner1"]
    assert outcome.stderr == ""


async def test_a_caller_in_the_environment_is_the_parent(refused_port: int, tmp_path: Path) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"

    spans, _ = await received(
        refused_port, tmp_path, TRACEPARENT=f"00-{trace_id}-b7ad6b7169203331-01"
    )

    assert {span.trace_id.hex() for span in spans} == {trace_id}


async def test_telemetry_that_is_off_records_nothing() -> None:
    handle = configure_telemetry({"PERSTACK_OTEL": "off"}, transport="library")
    run = Driver(handle.telemetry, a_checkpoint())

    with run.active():
        run.start()
        run.ask_for(("read", "mcp"))
        call = run.checkpoint.tool_calls[0]
        with run.span.tool_call(call, "planner"):
            assert not trace.get_current_span().is_recording()
        assert run.span.trace_parent is None
