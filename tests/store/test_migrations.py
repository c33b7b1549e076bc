"""Stores of other versions, and files that are no stores."""

import json
import signal
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack.core.checkpoint import Job
from perstack.core.events import RUN_EVENT
from perstack.errors import StoreError
from perstack.runtime.ports import TaskRecord
from perstack.store.connection import open_connections
from perstack.store.migrations import SCHEMA_VERSION
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.fakes import ManualClock
from tests.store.sample_job import RunStory, write

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
VERSIONS = range(1, SCHEMA_VERSION + 1)


def golden(version: int, folder: Path) -> Path:
    """A store as that version left it."""
    path = store_path(folder)
    path.parent.mkdir(parents=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((GOLDEN / f"v{version}.sql").read_text(encoding="utf-8"))
    return path


def shape(path: Path) -> set[tuple[str, str, str]]:
    """Tables and indexes with their columns."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            (kind, name, column[1 if kind == "table" else 2])
            for kind, name in connection.execute("SELECT type, name FROM sqlite_master")
            for column in connection.execute(
                f"PRAGMA {'table_info' if kind == 'table' else 'index_info'} ({name})"
            )
        }


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(
            connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone()[0]
        )


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_store_of_any_version_is_read_and_continued(version: int, tmp_path: Path) -> None:
    path = golden(version, tmp_path)
    assert version_of(path) == version
    told: dict[str, Any] = json.loads((GOLDEN / f"v{version}.json").read_text(encoding="utf-8"))
    clock = ManualClock(1_000_000, is_automatic=False)

    async with open_sqlite_store(path, clock=clock, is_alive=lambda _: True) as store:
        _, events = await store.events("job")
        assert list(events) == [RUN_EVENT.validate_json(json.dumps(old)) for old in told["events"]]
        assert [*await store.jobs()] == [Job.model_validate(old) for old in told["jobs"]]
        for task in told.get("tasks", ()):
            assert await store.task(task["task_id"]) == TaskRecord(**task)
        for job_id, request in told.get("requests", {}).items():
            assert await store.request(job_id) == request
        clock.advance(60)
        run = RunStory("open", "open-run")
        run.start()
        lease = await store.acquire("open")
        await store.append([run.cancel()], lease)
        assert (await store.load("open")).job.status == "stoppedByCancellation"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_store_of_any_version_becomes_like_a_new_one(version: int, tmp_path: Path) -> None:
    old, new = golden(version, tmp_path / "old"), store_path(tmp_path / "new")
    for path in (old, new):
        async with open_sqlite_store(path):
            pass
    assert shape(old) == shape(new)
    assert version_of(old) == SCHEMA_VERSION


def test_many_may_migrate_a_store_at_once(tmp_path: Path) -> None:
    path = golden(1, tmp_path)
    start = threading.Barrier(8)

    def migrate() -> str:
        start.wait(30)
        for connection in open_connections(path):
            connection.close()
        return "opened"

    with ThreadPoolExecutor(8) as pool:
        assert {task.result(20) for task in [pool.submit(migrate) for _ in range(8)]} == {"opened"}
    assert version_of(path) == SCHEMA_VERSION


@pytest.mark.parametrize("statements", [0, 1, 2, 3])
async def test_a_crash_in_the_middle_of_a_migration_does_no_harm(
    statements: int, tmp_path: Path
) -> None:
    path = golden(1, tmp_path)
    before = shape(path)
    command = [sys.executable, "-m", "tests.store.migrating_process", str(path), str(statements)]
    died = await anyio.run_process(command, cwd=ROOT, check=False)
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, b"")
    assert (shape(path), version_of(path)) == (before, 1)

    async with open_sqlite_store(path) as store:
        assert len(await store.jobs()) == 2
    assert version_of(path) == SCHEMA_VERSION


async def test_a_migration_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = golden(1, tmp_path)
    before = shape(path)

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE blobs")
        connection.execute("SELECT * FROM absent")

    monkeypatch.setattr("perstack.store.migrations.MIGRATIONS", (fail, fail))
    with pytest.raises(StoreError, match="no such table: absent"):
        async with open_sqlite_store(path):
            pass
    assert (shape(path), version_of(path)) == (before, 1)


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
