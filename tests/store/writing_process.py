"""A process that writes to a store, to be killed or to compete.

Takes the store's path, a job id and a number of steps. Says on stdout, line by line, which
event is durable; with 0 steps it never stops.
"""

import itertools
import sys
from pathlib import Path

import anyio

from perstack.store.sqlite import open_sqlite_store
from tests.store.sample_job import RunStory


async def main(path: Path, job_id: str, steps: int) -> None:
    run = RunStory(job_id, f"{job_id}-run")
    async with open_sqlite_store(path) as store:
        lease = await store.acquire(job_id)
        await store.append([run.start()], lease)
        for _ in range(steps) if steps else itertools.count():
            for event in run.step("word " * 100, "line " * 100):
                await store.append([event], lease)
                sys.stdout.write(f"{event.stamp.sequence}\n")
                sys.stdout.flush()
        await store.append([run.generate(), run.complete()], lease)
        await store.release(lease)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
