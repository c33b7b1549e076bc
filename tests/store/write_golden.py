"""Writes the golden store of the present schema version: `python -m tests.store.write_golden`.

To be run once, when the version is new. What it wrote stays as it is from then on.
"""

import base64
import json
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import anyio

from perstack.core.messages import ImageInlinePart, TextPart, UserMessage
from perstack.runtime.ports import TaskRecord
from perstack.store.migrations import SCHEMA_VERSION
from perstack.store.sqlite import open_sqlite_store
from tests.fakes import ManualClock
from tests.store.sample_job import RunStory

FOLDER = Path(__file__).parent / "golden"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "perstack" / "store.db"
        async with open_sqlite_store(
            path, owner="gone", clock=ManualClock(1_000_000, is_automatic=False)
        ) as store:
            parent = RunStory()
            child = parent.delegate("child")
            picture = base64.b64encode(bytes(range(256)) * 64).decode()
            message = UserMessage(
                contents=(
                    TextPart(text="Read it: \u00fc\u4e16\n"),
                    ImageInlinePart(encoded_data=picture, mime_type="image/png"),
                )
            )
            start = parent.start().model_copy(update={"input_messages": (message,)})
            lease = await store.acquire("job")
            await store.append((start, *parent.step()), lease)
            await store.append(
                (child.start(delegated_by=parent.as_delegator()), child.fail()), lease
            )
            await store.append((parent.generate(), parent.complete()), lease)
            await store.release(lease)
            task = TaskRecord(task_id="job.1", job_id="job", activation=1, created_at=7)
            await store.create_task(task)
            settled = await store.settle_task("job.1", "completed", {"message": "\u00fc"})
            assert settled is not None
            await store.submit_request("asked", {"expert_key": "expert", "query": "Go \u00fc"})
            open_run = RunStory("open", "open-run")
            await store.append([open_run.start()], await store.acquire("open"))
            _, events = await store.events("job")
            jobs = await store.jobs()
        with closing(sqlite3.connect(path)) as connection:
            dump = "\n".join(connection.iterdump())
    told = {
        "jobs": [job.model_dump(mode="json") for job in jobs],
        "tasks": [asdict(settled)],
        "requests": {"asked": {"expert_key": "expert", "query": "Go \u00fc"}},
        "events": [event.model_dump(mode="json") for event in events],
    }
    name = f"v{SCHEMA_VERSION}"
    (FOLDER / f"{name}.sql").write_text(dump + "\n", encoding="utf-8")
    (FOLDER / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    anyio.run(main)
