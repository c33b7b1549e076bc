"""One complete trace: a run with two parallel delegates, seen by a foreign OTLP receiver."""

import json
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from _stage import PERSTACK, StdioServer, conclude, plain_environment, say, workplace
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings

from tests.model_server import ModelServer, Reply, Request, ToolCall

CALLER_TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER_SPAN = "b7ad6b7169203331"
CALLER = f"00-{CALLER_TRACE}-{CALLER_SPAN}-01"
TOML = """
model = "gpt-5"

[provider]
providerName = "openai"

[experts."planner"]
description = "Plans a trip."
instruction = "Coordinate the trip."
delegates = ["@planner/hotel", "@planner/train"]

[experts."@planner/hotel"]
description = "Finds a hotel."
instruction = "Find the hotel."

[experts."@planner/train"]
description = "Finds a train."
instruction = "Find the train."
"""
EXPECTED = Counter(
    {
        ("tools/call planner", "caller"): 1,
        ("invoke_agent planner", "tools/call planner"): 1,
        ("step", "invoke_agent planner"): 2,
        ("chat gpt-5", "step"): 6,
        ("execute_tool hotel", "step"): 1,
        ("execute_tool train", "step"): 1,
        ("invoke_agent @planner/hotel", "execute_tool hotel"): 1,
        ("invoke_agent @planner/train", "execute_tool train"): 1,
        ("step", "invoke_agent @planner/hotel"): 2,
        ("step", "invoke_agent @planner/train"): 2,
        ("execute_tool writeTextFile", "step"): 2,
    }
)
REQUIRED = {
    "invoke_agent": (
        "gen_ai.operation.name",
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "perstack.job.id",
        "perstack.run.id",
        "perstack.run.status",
        "gen_ai.usage.input_tokens",
    ),
    "chat": (
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.response.finish_reasons",
    ),
    "execute_tool": ("gen_ai.operation.name", "gen_ai.tool.name", "gen_ai.tool.call.id"),
    "step": ("perstack.step.number",),
}


def script(request: Request) -> Reply:
    """The coordinator asks both delegates at once; each writes a file and answers."""
    done = ToolCall("attemptCompletion", {"result": "booked"}, f"done{request.number}")
    if request.tool_results:
        return Reply(tool_calls=(done,))
    if "Coordinate the trip" in request.system:
        asked = (("hotel", "a room"), ("train", "a seat"))
        return Reply(
            tool_calls=tuple(ToolCall(name, {"query": what}, f"ask-{name}") for name, what in asked)
        )
    name = "hotel" if "Find the hotel" in request.system else "train"
    note = ToolCall("writeTextFile", {"path": f"{name}.txt", "text": "found"}, f"note-{name}")
    return Reply(tool_calls=(note,))


def run_job(folder: Path, model: ModelServer, endpoint: str) -> dict[str, Any]:
    """One call of the expert by a caller that traces itself."""
    environment = plain_environment(
        OPENAI_API_KEY="sk-proof",
        OPENAI_BASE_URL=f"{model.base_url}/v1",
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_SERVICE_NAME="perstack-proof",
    )
    server = StdioServer([*PERSTACK, "serve"], cwd=folder, environment=environment)
    server.handshake()
    arguments = {"query": "Book it.", "wait_seconds": 60}
    params = {"name": "planner", "arguments": arguments, "_meta": {"traceparent": CALLER}}
    result = server.ask("tools/call", params)
    if server.close() != 0:
        raise RuntimeError(server.stderr())
    structured: dict[str, Any] = result["structuredContent"]
    return structured


async def received(folder: Path, model: ModelServer) -> tuple[list[Span], dict[str, Any]]:
    """The spans that the receiver got until the server had ended, and the job's result."""
    port = 20000 + os.getpid() % 20000
    spans: list[Span] = []
    results: list[dict[str, Any]] = []

    async def collect(receiver: OtelTapHttpProtobufReceiver) -> None:
        async for span in receiver.stream_traces():
            spans.append(span)  # noqa: PERF401 - what came before a cancellation must be kept

    settings = OtelTapHttpProtobufReceiverSettings(http_port=port)
    with anyio.fail_after(120):
        async with (
            OtelTapHttpProtobufReceiver(settings) as receiver,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(collect, receiver)
            work = partial(run_job, folder, model, f"http://127.0.0.1:{port}")
            results.append(await anyio.to_thread.run_sync(work))
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
    return spans, results[0]


def draw(spans: list[Span], parent: bytes, depth: int = 0) -> None:
    """Print the tree below a span."""
    for span in sorted(spans, key=lambda one: one.start_time_unix_nano):
        if span.parent_span_id == parent:
            took = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
            say(f"  {'   ' * depth}{span.name}  {took:.0f} ms")
            draw(spans, span.span_id, depth + 1)


def missing_attributes(spans: list[Span]) -> list[str]:
    """What spans ought to say and do not."""
    lacks: list[str] = []
    for span in spans:
        present = {attribute.key for attribute in span.attributes}
        wanted = REQUIRED.get(span.name.split(" ")[0], ())
        lacks += [f"{span.name}: {key}" for key in wanted if key not in present]
    return lacks


def main() -> None:
    """Trace one job and compare the tree with the one promised."""
    with workplace() as folder, ModelServer(script) as model:
        (folder / "perstack.toml").write_text(TOML, encoding="utf-8")
        spans, result = anyio.run(received, folder, model)
    say(f"job {result['job_id']} {result['status']}: {json.dumps(result['text'])}")
    draw(spans, bytes.fromhex(CALLER_SPAN))
    names = {span.span_id: span.name for span in spans} | {bytes.fromhex(CALLER_SPAN): "caller"}
    orphans = [span.name for span in spans if span.parent_span_id not in names]
    traces = {span.trace_id.hex() for span in spans}
    links = Counter((span.name, names.get(span.parent_span_id, "?")) for span in spans)
    absent = EXPECTED - links
    lacks = missing_attributes(spans)
    for title, found in (
        ("orphans", orphans),
        ("missing spans", list(absent)),
        ("missing attributes", lacks),
    ):
        if found:
            say(f"{title}: {found}")
    conclude(
        "trace",
        holds=traces == {CALLER_TRACE} and not orphans and not absent and not lacks,
        seen=f"{len(spans)} spans in {len(traces)} trace, {len(orphans)} orphans, "
        f"{len(absent)} missing, {len(lacks)} attributes missing",
    )


if __name__ == "__main__":
    main()
