"""A process of its own that plays runs under the telemetry its environment asks for.

    python -m tests.telemetry.exporting REPORT TRANSPORT RUNS

Each run has an engine's life of telemetry to itself. The report says which modules were loaded,
when the end began, and what a host application saw of the spans, if `HOSTED` is set.
"""

import json
import os
import sys
from pathlib import Path
from time import monotonic

import anyio
from opentelemetry import trace

from perstack.telemetry.setup import configure_telemetry
from tests.telemetry.driver import Driver, a_checkpoint


async def play(transport: str, name: str) -> float:
    """One engine with one run; returns when its end began."""
    handle = configure_telemetry(os.environ, transport=transport)
    run = Driver(handle.telemetry, a_checkpoint(name))
    with run.active():
        run.start("a question with canary-of-the-user")
        run.ask_for(("read", "mcp"), token=os.environ.get("SOME_API_KEY", ""))
        await run.call_tools()
        run.next_step()
        run.finish()
    handle.flush_soon()
    began = monotonic()
    handle.stop()
    handle.stop()
    return began


def main() -> None:
    report, transport, runs = sys.argv[1:]
    hosted: list[str] = []
    if "HOSTED" in os.environ:
        trace.set_tracer_provider(host_provider(hosted))
    began = [anyio.run(play, transport, f"planner{number}") for number in range(int(runs))]
    if hosted:
        with trace.get_tracer("host").start_as_current_span("after the engine"):
            pass
    content = {"began": began[-1], "modules": sorted(sys.modules), "hosted": hosted}
    Path(report).write_text(json.dumps(content), encoding="utf-8")


def host_provider(ended: list[str]) -> trace.TracerProvider:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider  # noqa: PLC0415 - only a host has the SDK

    class Remember(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span.name)

        def shutdown(self) -> None:
            ended.append("shut down")

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Remember())
    return provider


if __name__ == "__main__":
    main()
