"""perstack at work: jobs of one expert in one engine. A program that benchmarks start.

It has the event loop of the commands of perstack, and collects garbage as rarely as they do.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import anyio

from benchmarks.stage import memory_mib, order
from perstack import Settings, open_engine
from perstack.cli.event_loop import run_async
from perstack.cli.main import GC_THRESHOLDS
from perstack.engine import Engine
from perstack.jobs import JobView
from perstack.runtime.start_plan import JobRequest


async def carry_out(engine: Engine, views: list[JobView], **request: Any) -> None:
    """One job to its end."""
    job = await engine.start(JobRequest(**request))
    views.append(await job.wait())


async def work(options: dict[str, Any]) -> dict[str, Any]:
    """Do what the options say."""
    views: list[JobView] = []
    async with open_engine(Settings(config=Path("perstack.toml"), workspace=Path())) as engine:
        if options.get("is_warm"):
            await engine.warm_up()
            # As the opponent opens its tool before its time begins.
            expert, tool = options.get("warm", ("reader", "readTextFile"))
            await carry_out(engine, [], expert_key=expert, query=order("warm", steps=1, tool=tool))
        before = memory_mib()
        started = time.monotonic()
        async with anyio.create_task_group() as tasks:
            for request in options["requests"]:

                async def one(request: dict[str, Any] = request) -> None:
                    await carry_out(engine, views, **request)

                tasks.start_soon(one)
        seconds = time.monotonic() - started
        highest = memory_mib("VmHWM")
    return {
        "started": started,
        "seconds": seconds,
        "job_ids": [view.job.id for view in views],
        "statuses": sorted({view.job.status for view in views}),
        "memory": highest - before if before and highest else None,
    }


if __name__ == "__main__":
    gc.set_threshold(*GC_THRESHOLDS)
    sys.stdout.write(json.dumps(run_async(work, json.loads(sys.argv[1]))) + "\n")
