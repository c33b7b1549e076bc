"""Trace context from outside, and the MCP SDK's spans among ours."""

from collections.abc import MutableMapping
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from perstack.telemetry.otel import parse_trace_parent
from perstack.telemetry.propagation import (
    TraceContextMiddleware,
    annotate_call,
    attach_environment_context,
    parent_from_environment,
)
from perstack.telemetry.provider import FilteringTracer, head_sampler
from perstack.telemetry.settings import McpSpans, read_settings
from tests.telemetry.driver import Driver, a_checkpoint
from tests.telemetry.span_tree import Recorder

pytestmark = pytest.mark.anyio

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def current_trace_id() -> str:
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


async def no_receive() -> MutableMapping[str, Any]:
    return {}


async def no_send(_message: MutableMapping[str, Any]) -> None:
    return


async def call_over_http(recorder: Recorder, **headers: str) -> None:
    async def app(_scope: object, _receive: object, _send: object) -> None:
        with recorder.provider.get_tracer("sdk").start_as_current_span("tools/call planner"):
            annotate_call(job_id="job1", transport="tcp", session_id="s1")

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw}
    await TraceContextMiddleware(app)(scope, no_receive, no_send)


async def test_a_request_continues_the_trace_of_its_header() -> None:
    recorder = Recorder()

    await call_over_http(recorder, traceparent=PARENT)

    span = recorder.named("tools/call planner")
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.links == ()
    assert dict(span.attributes or {}) == {
        "perstack.job.id": "job1",
        "network.transport": "tcp",
        "mcp.session.id": "s1",
    }
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_header_that_is_no_trace_context_is_ignored() -> None:
    recorder = Recorder()

    await call_over_http(recorder, traceparent="nonsense")

    assert recorder.named("tools/call planner").parent is None


async def test_other_traffic_passes_through() -> None:
    seen: list[str] = []

    async def app(scope: MutableMapping[str, Any], _receive: object, _send: object) -> None:
        seen.append(scope["type"])

    await TraceContextMiddleware(app)({"type": "lifespan"}, no_receive, no_send)

    assert seen == ["lifespan"]


async def test_the_environment_names_the_parent_of_a_process() -> None:
    with attach_environment_context({"TRACEPARENT": PARENT, "BAGGAGE": "tenant=t1"}):
        assert current_trace_id() == TRACE_ID
        assert baggage.get_baggage("tenant") == "t1"

    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.parametrize("value", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
async def test_an_environment_without_a_span_changes_nothing(value: str) -> None:
    assert parent_from_environment({"TRACEPARENT": value}) is None


def test_only_a_valid_trace_parent_is_parsed() -> None:
    parsed = parse_trace_parent(PARENT)

    assert parsed is not None
    assert f"{parsed.trace_id:032x}" == TRACE_ID
    assert parse_trace_parent("00-zz") is None


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("tools", ["invoke_agent planner", "tools/call planner"]),
        ("all", ["invoke_agent planner", "tools/call planner", "initialize"]),
        ("none", ["invoke_agent planner"]),
    ],
)
async def test_noise_of_the_protocol_is_left_out_without_a_gap(
    kept: McpSpans, expected: list[str]
) -> None:
    recorder = Recorder()
    caller = recorder.provider.get_tracer("caller")
    quiet = FilteringTracer(recorder.provider.get_tracer("mcp-python-sdk"), kept)

    with (
        caller.start_as_current_span("caller"),
        quiet.start_as_current_span("initialize", attributes={"mcp.method.name": "initialize"}),
        quiet.start_as_current_span(
            "tools/call planner", attributes={"mcp.method.name": "tools/call"}
        ),
        Driver(recorder.tracing, a_checkpoint()).active(),
    ):
        pass

    ended = [span.name for span in recorder.spans]
    assert ended == [*expected, "caller"]
    known = {span.context.span_id for span in recorder.spans if span.context}
    assert all(span.parent is None or span.parent.span_id in known for span in recorder.spans)
    assert len({span.context.trace_id for span in recorder.spans if span.context}) == 1


async def test_a_message_parent_wins_and_the_request_is_linked() -> None:
    recorder = Recorder()

    async def app(_scope: object, _receive: object, _send: object) -> None:
        tracer = recorder.provider.get_tracer("sdk")
        other = parse_trace_parent("00-" + "1" * 32 + "-" + "2" * 16 + "-01")
        assert other is not None
        parent = trace.set_span_in_context(trace.NonRecordingSpan(other), context.Context())
        with tracer.start_as_current_span("tools/call planner", context=parent):
            annotate_call(job_id="job1", transport="tcp")

    scope = {"type": "http", "headers": [(b"traceparent", PARENT.encode())]}
    await TraceContextMiddleware(app)(scope, no_receive, no_send)

    span = recorder.named("tools/call planner")
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == "1" * 32
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE_ID]


def test_the_sampler_is_that_of_the_environment() -> None:
    def named(name: str, argument: str = "") -> str:
        environment = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument}
        return head_sampler(read_settings(environment)).get_description()

    assert named("always_on") == ALWAYS_ON.get_description()
    assert named("always_off") == ALWAYS_OFF.get_description()
    assert named("traceidratio", "0") == "TraceIdRatioBased{0.0}"
    assert named("parentbased_traceidratio", "0.25").startswith("ParentBased{root:TraceIdRatio")
    assert named("unheard of").startswith("ParentBased{root:AlwaysOn")
