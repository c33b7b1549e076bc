"""The file of the SQLite store: where it is, how it grows, and what if it cannot be written."""

import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from perstack.errors import JobStateError, StoreError
from perstack.store.sqlite import open_sqlite_store
from perstack.stores import store_path
from tests.store.sample_job import RunStory, write

pytestmark = pytest.mark.anyio

# Privileges are dropped in a process of its own, because root may write to a read-only folder.
OPEN_AS_NOBODY = """
import os, sys
from pathlib import Path
import anyio
from perstack.errors import StoreError
from perstack.store.sqlite import open_sqlite_store

async def main(path):
    await anyio.to_thread.run_sync(int)
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        async with open_sqlite_store(path):
            print("opened")
    except StoreError as error:
        print(error)

anyio.run(main, Path(sys.argv[1]))
"""
WRITE_WITH_A_LIMIT = """
import resource, sys
from pathlib import Path
import anyio
from perstack.errors import StoreError
from perstack.store.sqlite import open_sqlite_store
from tests.store.sample_job import RunStory, write

async def main(path):
    run = RunStory()
    async with open_sqlite_store(path) as store:
        lease = await write(store, run.start())
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            for _ in range(1000):
                await store.append(run.step("s" * 2000), lease)
                done = run.sequence
        except StoreError as error:
            print(error)
        _, events = await store.events("job")
        print(len(events) == done)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        run.sequence = done
        await store.append(run.step(), lease)
        _, events = await store.events("job")
        print(len(events) == done + 7)

anyio.run(main, Path(sys.argv[1]))
"""


def run_python(script: str, path: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


async def test_the_folder_is_private_and_unseen_by_git(tmp_path: Path) -> None:
    path = store_path(tmp_path)

    async with open_sqlite_store(path):
        pass

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", "store.db"]
    assert (path.parent / ".gitignore").read_text(encoding="utf-8") == "*\n"


async def test_a_folder_that_was_there_keeps_its_content(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    path.parent.mkdir()
    (path.parent / "notes.md").write_text("mine", encoding="utf-8")

    async with open_sqlite_store(path):
        pass

    assert sorted(entry.name for entry in path.parent.iterdir()) == ["notes.md", "store.db"]


async def test_a_store_is_as_it_was_after_reopening(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    run = RunStory()
    events = (run.start(), *run.step(), run.generate(), run.complete())
    async with open_sqlite_store(path) as store:
        await write(store, *events)
        before = await store.load("job")

    async with open_sqlite_store(path) as store:
        assert await store.load("job") == before


async def test_a_write_that_was_handed_over_is_finished_when_its_caller_is_cancelled(
    tmp_path: Path,
) -> None:
    run = RunStory()
    async with open_sqlite_store(store_path(tmp_path)) as store:
        lease = await write(store, run.start())
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.append(run.step(), lease)

        assert len((await store.load("job")).runs["run"]) == 8


async def test_one_bad_append_does_not_spoil_those_beside_it(tmp_path: Path) -> None:
    refused: list[str] = []
    async with open_sqlite_store(store_path(tmp_path)) as store:

        async def live(number: int) -> None:
            run = RunStory(f"job-{number}", f"run-{number}")
            lease = await write(store, run.start())
            if number % 2:
                run.sequence += 1
            try:
                await store.append(run.step(), lease)
            except StoreError:
                refused.append(run.job_id)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(live, number)

        jobs = await store.jobs()
        lengths = {job.id: len((await store.events(job.id))[1]) for job in jobs}
    assert sorted(refused) == sorted(f"job-{number}" for number in range(1, 20, 2))
    assert lengths == {f"job-{n}": 1 if n % 2 else 8 for n in range(20)}


async def test_a_run_cannot_belong_to_two_jobs(tmp_path: Path) -> None:
    async with open_sqlite_store(store_path(tmp_path)) as store:
        await write(store, RunStory("job", "run").start())

        with pytest.raises(StoreError, match="exists already, in another job"):
            await write(store, RunStory("other", "run").start())

        assert [job.id for job in await store.jobs()] == ["job"]


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    async with open_sqlite_store(store_path(tmp_path)) as store:
        pass

    with pytest.raises(StoreError, match="closed"):
        await store.acquire("job")


async def test_two_stores_of_one_process_do_not_share_a_job(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    async with open_sqlite_store(path) as one, open_sqlite_store(path) as two:
        await one.acquire("job")

        with pytest.raises(JobStateError, match="this process"):
            await two.acquire("job")


async def test_an_exception_inside_the_context_comes_out_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        async with open_sqlite_store(store_path(tmp_path)):
            raise KeyError


async def test_bytes_grow_with_the_content_and_stay_below_twice_its_size(tmp_path: Path) -> None:
    sizes: list[int] = []
    for steps in (0, 50, 100, 200):
        path = store_path(tmp_path / str(steps))
        run = RunStory()
        async with open_sqlite_store(path) as store:
            lease = await write(store, run.start())
            for _ in range(steps):
                await store.append(run.step("s" * 1000, "f" * 1000), lease)
        sizes.append(path.stat().st_size)

    empty, *grown = sizes
    ratios = [
        (size - empty) / (steps * 2000) for size, steps in zip(grown, (50, 100, 200), strict=True)
    ]
    assert max(ratios) < 2
    assert max(ratios) <= min(ratios) * 1.1
    assert grown[-1] < 2 * 200 * 2000


async def test_a_long_part_is_stored_once(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    run = RunStory()
    async with open_sqlite_store(path) as store:
        lease = await write(store, run.start())
        for _ in range(20):
            await store.append(run.step("s", "f" * 100_000), lease)

    assert path.stat().st_size < 400_000


async def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    path.parent.write_text("", encoding="utf-8")

    with pytest.raises(StoreError, match=r"perstack for the store cannot be used: .*workspace"):
        async with open_sqlite_store(path):
            pass


async def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    path = store_path(tmp_path)
    path.mkdir(parents=True)

    with pytest.raises(StoreError, match=r"store\.db cannot be opened for writing"):
        async with open_sqlite_store(path):
            pass


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o700)


def test_a_read_only_workspace_is_named(open_folder: Path) -> None:
    open_folder.chmod(0o555)

    (said,) = run_python(OPEN_AS_NOBODY, store_path(open_folder))

    assert "perstack for the store cannot be used: Permission denied. Make its place" in said


def test_a_read_only_store_is_named(open_folder: Path) -> None:
    path = store_path(open_folder)

    async def make() -> None:
        async with open_sqlite_store(path):
            pass

    anyio.run(make)
    path.chmod(0o444)
    path.parent.chmod(0o555)

    (said,) = run_python(OPEN_AS_NOBODY, path)
    path.parent.chmod(0o755)

    assert "store.db cannot be opened for writing. Make the folder writable" in said


def test_a_file_that_may_not_grow_loses_nothing_and_goes_on_later(tmp_path: Path) -> None:
    said, *checks = run_python(WRITE_WITH_A_LIMIT, store_path(tmp_path))

    assert "nothing was written" in said
    assert checks == ["True", "True"]


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_loses_nothing_and_goes_on_later(full_disk: Path) -> None:
    ballast = full_disk / "ballast"
    ballast.write_bytes(b"b" * 200_000)
    run = RunStory()
    async with open_sqlite_store(store_path(full_disk)) as store:
        lease = await write(store, run.start())
        done = 1
        problem = ""
        while not problem:
            try:
                await store.append(run.step("s" * 2000), lease)
                done = run.sequence
            except StoreError as error:
                problem = str(error)
        assert "is full; nothing was written. Free some space" in problem
        _, events = await store.events("job")
        assert len(events) == done

        ballast.unlink()
        run.sequence = done
        await store.append(run.step(), lease)

        _, events = await store.events("job")
        assert len(events) == done + 7
