"""Stores of other versions, and files that are no stores."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from perstack.core.events import RUN_EVENT
from perstack.errors import StoreError
from perstack.store.schema import SCHEMA_VERSION
from perstack.store.sqlite import open_sqlite_store, store_path
from tests.store.backend import ManualClock
from tests.store.story import RunStory, write

pytestmark = pytest.mark.anyio
GOLDEN = Path(__file__).parent / "golden"
VERSIONS = range(1, SCHEMA_VERSION + 1)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_store_of_any_version_is_read_and_continued(version: int, tmp_path: Path) -> None:
    path = store_path(tmp_path)
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((GOLDEN / f"v{version}.sql").read_text(encoding="utf-8"))
    told: dict[str, Any] = json.loads((GOLDEN / f"v{version}.json").read_text(encoding="utf-8"))
    clock = ManualClock()

    async with open_sqlite_store(path, clock=clock, is_alive=lambda _: True) as store:
        _, events = await store.events("job")
        assert list(events) == [RUN_EVENT.validate_json(json.dumps(old)) for old in told["events"]]
        assert [job.model_dump(mode="json") for job in await store.jobs()] == told["jobs"]
        clock.advance(60)
        run = RunStory("open", "open-run")
        run.start()
        lease = await store.acquire("open")
        await store.append([run.cancel()], lease)
        assert (await store.load("open")).job.status == "stoppedByCancellation"


async def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    async with open_sqlite_store(path):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'")

    with pytest.raises(StoreError, match=r"store\.db has schema version 99.*Update perstack"):
        async with open_sqlite_store(path):
            pass


@pytest.mark.parametrize("content", [b"not a database, " * 100, b"x"])
async def test_a_file_of_something_else_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = store_path(tmp_path)
    path.parent.mkdir()
    path.write_bytes(content)

    with pytest.raises(StoreError, match=r"store\.db is not a perstack store.*Move the file"):
        async with open_sqlite_store(path):
            pass
    assert path.read_bytes() == content


async def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")

    with pytest.raises(StoreError, match=r"store\.db is a database, but not a perstack store"):
        async with open_sqlite_store(path):
            pass


async def test_a_damaged_store_is_reported_as_such(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    run = RunStory()
    async with open_sqlite_store(path) as store:
        lease = await write(store, run.start())
        for _ in range(50):
            await store.append(run.step("s" * 1000), lease)
    with path.open("r+b") as file:
        file.seek(4096 * 12)
        file.write(b"\xff" * 4096 * 8)

    async with open_sqlite_store(path) as store:
        with pytest.raises(StoreError, match=r"store\.db is damaged.*Restore it"):
            await store.load("job")
