"""What a streamed chunk costs, from the socket to the listener of a job.

The same text comes in many chunks and in few. The difference of the times, for each chunk more, is
the whole path: HTTP, framing, JSON, the reply, an event for the listener.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import anyio

from benchmarks.stage import Row, figure, model, order, perform, workplace

FEW, MANY = 40, 4_000
JOBS = 9
ROUNDS = 3
LIMIT_US = 40.0


async def stream_with_perstack() -> list[float]:
    """Microseconds for a chunk, of several jobs."""
    from perstack import Settings, open_engine  # noqa: PLC0415 - the floor does without it
    from perstack.runtime.start_plan import JobRequest  # noqa: PLC0415 - as above

    settings = Settings(config=Path("perstack.toml"), workspace=Path(), is_streaming=True)
    async with open_engine(settings) as engine:
        await engine.warm_up()

        async def seconds(chunks: int) -> float:
            deltas = 0

            def count(event: object, _checkpoint: object) -> None:
                nonlocal deltas
                deltas += getattr(event, "type", "") == "streamRunResult"

            request = JobRequest(
                expert_key="reader", query=f"{order('stream', steps=0)} chunks={chunks}"
            )
            started = time.monotonic()
            job = await engine.start(request, count)
            await job.wait()
            took = time.monotonic() - started
            if deltas != chunks:
                raise RuntimeError(f"{deltas} of {chunks} chunks reached the listener")
            return took

        await seconds(FEW)
        return [
            (await seconds(MANY) - await seconds(FEW)) / (MANY - FEW) * 1e6 for _ in range(JOBS)
        ]


async def stream_bare() -> list[float]:
    """The same with a bare client that parses each line."""
    import aiohttp  # noqa: PLC0415 - as above

    address = f"{os.environ['OPENAI_BASE_URL']}/chat/completions"
    async with aiohttp.ClientSession() as session:

        async def seconds(chunks: int) -> float:
            content = f"{order('stream', steps=0)} chunks={chunks}"
            body = b'{"stream":true,"messages":[{"content":"%s"}]}' % content.encode()
            texts: list[str] = []
            started = time.monotonic()
            async with session.post(address, data=body) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        delta = json.loads(line[6:])["choices"][0]["delta"]
                        texts.append(delta.get("content", ""))
            return time.monotonic() - started

        await seconds(FEW)
        return [
            (await seconds(MANY) - await seconds(FEW)) / (MANY - FEW) * 1e6 for _ in range(JOBS)
        ]


def measure() -> list[Row]:
    """Both in turn, each in a process of its own."""
    seen: dict[str, list[float]] = {"perstack": [], "bare": []}
    with model() as served_by:
        for _ in range(ROUNDS):
            for client, medians in seen.items():
                with workplace() as folder:
                    report = perform("stream", folder, served_by, client=client)
                medians.append(statistics.median(report["microseconds"]))
    bare, ours = figure(seen["bare"]), figure(seen["perstack"])
    return [
        Row("a streamed chunk: bare aiohttp and json", "µs", bare),
        Row("a streamed chunk: perstack", "µs", ours, limit=LIMIT_US),
    ]


if __name__ == "__main__":
    is_bare = json.loads(sys.argv[1])["client"] == "bare"
    microseconds = anyio.run(stream_bare if is_bare else stream_with_perstack)
    sys.stdout.write(json.dumps({"microseconds": microseconds}) + "\n")
