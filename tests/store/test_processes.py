"""Several processes on one workspace, some of which die."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from perstack.errors import JobStateError
from perstack.store.leases import current_owner, process_is_alive
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.store.sample_job import RunStory, write

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]


def start_writing(path: Path, job_id: str, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.writing_process", str(path), job_id, str(steps)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def integrity(path: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall()


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    with start_writing(path, "job", 0) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(100)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout.read().split("\n")[:-1]]

    async with open_sqlite_store(path) as store:
        record = await store.load("job")
        sequences = [event.stamp.sequence for event in record.runs["job-run"]]
        assert sequences == list(range(1, len(sequences) + 1))
        assert len(sequences) >= acknowledged[-1]
        assert record.job.status == "interrupted"
        lease = await store.acquire("job")
        assert lease.fence == 2
    assert integrity(path) == [("ok",)]


async def test_a_job_of_a_living_process_is_refused_with_its_number(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    with start_writing(path, "job", 0) as process:
        assert process.stdout is not None
        process.stdout.readline()
        async with open_sqlite_store(path) as store:
            with pytest.raises(JobStateError, match=f"process {process.pid} on this machine"):
                await store.acquire("job")
        process.kill()


async def test_processes_write_different_jobs_of_one_store_at_the_same_time(
    tmp_path: Path,
) -> None:
    path = store_path(tmp_path)
    processes = [start_writing(path, f"job-{number}", 20) for number in range(3)]
    mine = RunStory()
    async with open_sqlite_store(path) as store:
        lease = await write(store, mine.start())
        for _ in range(20):
            await store.append(mine.step(), lease)
            await store.jobs()
        codes: list[int] = []
        for process in processes:
            await anyio.to_thread.run_sync(process.communicate)
            codes.append(process.returncode)

        assert codes == [0, 0, 0]
        assert {job.total_steps for job in await store.jobs(status="completed")} == {21}
        for number in range(3):
            (events,) = (await store.load(f"job-{number}")).runs.values()
            assert len(events) == 1 + 20 * 7 + 2
        assert len((await store.load("job")).runs["run"]) == 141
    assert integrity(path) == [("ok",)]


def test_this_process_is_alive() -> None:
    assert process_is_alive(current_owner())


def test_a_process_that_ended_is_dead_even_before_it_is_reaped() -> None:
    host, _, _ = current_owner().partition(":")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = f"{host}:{process.pid}:"
    assert process_is_alive(owner)

    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not process_is_alive(f"{owner}12345")
    process.communicate()

    assert not process_is_alive(owner)


def test_a_reused_process_id_is_not_the_owner() -> None:
    host, pid, _ = current_owner().split(":")

    assert not process_is_alive(f"{host}:{pid}:1")


def test_a_process_of_another_machine_is_assumed_alive() -> None:
    assert process_is_alive("elsewhere:1:1")
