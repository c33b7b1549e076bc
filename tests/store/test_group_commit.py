"""Where transactions are made, and what that must not hold up."""

import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from perstack.store.connection import open_connections
from perstack.store.group_commit import GroupCommitter

SLOW_QUERY = """
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 200000)
    SELECT count(*) FROM numbers
"""


@asynccontextmanager
async def opened(path: Path) -> AsyncGenerator[GroupCommitter]:
    writing, reading = open_connections(path)
    committer = GroupCommitter(writing, path)
    try:
        yield committer
    finally:
        await committer.close()
        writing.close()
        reading.close()


def thread_of_transaction(_connection: sqlite3.Connection) -> int:
    return threading.get_ident()


@pytest.mark.anyio
async def test_a_transaction_that_nobody_shares_is_made_in_the_thread_of_its_caller(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path / "store.db") as committer:
        alone = await committer.submit(thread_of_transaction, is_alone=True)
        shared = await committer.submit(thread_of_transaction)
    assert alone == threading.get_ident()
    assert shared != threading.get_ident()


@pytest.mark.anyio
async def test_after_a_slow_transaction_the_next_one_is_made_elsewhere(tmp_path: Path) -> None:
    async with opened(tmp_path / "store.db") as committer:
        await committer.submit(lambda each: each.execute(SLOW_QUERY).fetchone(), is_alone=True)
        after_slow = await committer.submit(thread_of_transaction, is_alone=True)
        after_fast = await committer.submit(thread_of_transaction, is_alone=True)
    assert after_slow != threading.get_ident()
    assert after_fast == threading.get_ident()


@pytest.mark.anyio
async def test_the_event_loop_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    threads: list[int] = []
    async with opened(path) as committer:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            async def write() -> None:
                threads.append(await committer.submit(thread_of_transaction, is_alone=True))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(write)
                await anyio.wait_all_tasks_blocked()
                assert threads == []
                other.execute("COMMIT")
    assert threads != [threading.get_ident()]


@pytest.mark.anyio
async def test_a_failure_is_the_callers_wherever_it_happens(tmp_path: Path) -> None:
    def fail(_connection: sqlite3.Connection) -> None:
        raise LookupError("of the caller")

    async with opened(tmp_path / "store.db") as committer:
        for is_alone in (True, False):
            with pytest.raises(LookupError):
                await committer.submit(fail, is_alone=is_alone)
        assert await committer.submit(thread_of_transaction, is_alone=True) == threading.get_ident()
