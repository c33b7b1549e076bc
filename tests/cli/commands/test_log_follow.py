"""`perstack log --follow`: events of a job as another process writes them."""

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from perstack.cli.job_log import JobLogReader, JobSelector, find_job_log, follow_job
from perstack.core.events import RunEvent
from perstack.core.history import RecordedEvent
from perstack.errors import StoreError
from perstack.runtime.ports import Lease
from perstack.store.sqlite import SqliteStore, open_sqlite_store
from tests.cli.harness import Stage, says
from tests.store.sample_job import RunStory, write

SLOW = {"text": "one two three", "delaySeconds": 600}


class Writer:
    """A clock during whose sleep another process writes the next events, and at last is done."""

    def __init__(self, store: SqliteStore, lease: Lease, batches: Sequence[Sequence[RunEvent]]):
        self._store = store
        self._lease = lease
        self._batches = list(batches)
        self.looks = 0

    def now_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        assert 0 < seconds < 1
        self.looks += 1
        if self._batches:
            await self._store.append(self._batches.pop(0), self._lease)
        else:
            await self._store.release(self._lease)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncGenerator[tuple[SqliteStore, SqliteStore]]:
    """Those of two processes."""
    path = tmp_path / "store.db"
    async with open_sqlite_store(path) as ours, open_sqlite_store(path, owner="other:1:") as theirs:
        yield ours, theirs


async def followed(reader: JobLogReader, clock: Writer, most: int = 100) -> list[int]:
    """The sequence numbers of what is shown."""
    seen: list[int] = []

    def show(entries: tuple[RecordedEvent, ...]) -> bool:
        seen.extend(entry.event.stamp.sequence for entry in entries)
        return len(seen) < most

    with anyio.fail_after(30):
        await follow_job(reader, clock, show)
    return seen


@pytest.mark.anyio
async def test_events_are_shown_once_each_until_the_job_has_ended(
    stores: tuple[SqliteStore, SqliteStore], tmp_path: Path
) -> None:
    ours, theirs = stores
    run = RunStory()
    lease = await write(theirs, run.start())
    batches = [run.step(), (), (run.generate(),), (run.complete(),)]
    reader = await find_job_log(ours, tmp_path, JobSelector())
    assert await followed(reader, Writer(theirs, lease, batches)) == list(range(1, 11))
    assert reader.snapshot().view.job.status == "completed"
    assert reader.snapshot().is_latest


@pytest.mark.anyio
async def test_it_ends_when_the_driver_of_the_job_has_gone(
    stores: tuple[SqliteStore, SqliteStore], tmp_path: Path
) -> None:
    ours, theirs = stores
    run = RunStory()
    lease = await write(theirs, run.start())
    clock = Writer(theirs, lease, [(run.generate(),)])
    reader = await find_job_log(ours, tmp_path, JobSelector(run_id="run"))
    assert await followed(reader, clock) == [1, 2]
    assert reader.snapshot().view.job.status == "interrupted"
    assert not reader.snapshot().is_latest


@pytest.mark.anyio
async def test_it_ends_when_nothing_more_is_wanted(
    stores: tuple[SqliteStore, SqliteStore], tmp_path: Path
) -> None:
    ours, theirs = stores
    run = RunStory()
    lease = await write(theirs, run.start())
    clock = Writer(theirs, lease, [(run.generate(),), (run.complete(),)])
    reader = await find_job_log(ours, tmp_path, JobSelector(job_id="job"))
    assert await followed(reader, clock, most=2) == [1, 2]
    assert clock.looks == 1


@pytest.mark.anyio
async def test_events_that_do_not_fit_together_are_a_damaged_store(
    stores: tuple[SqliteStore, SqliteStore], tmp_path: Path
) -> None:
    ours, theirs = stores
    run = RunStory()
    await write(theirs, run.start(), run.complete(), run.generate())
    reader = await find_job_log(ours, tmp_path, JobSelector())
    with pytest.raises(StoreError, match="The events of job job do not fit together: "):
        await reader.read_new()


def test_a_job_that_has_stopped_is_shown_to_its_end(here: Stage) -> None:
    here.plays(a=[says("all done")])
    here.runs("a", "q")
    out = here.logs("--follow")
    assert (out.code, out.stderr) == (0, "")
    lines = out.stdout.splitlines()
    assert lines[0] == "(showing latest job)"
    assert "  ✓ all done" in lines
    assert lines[-2] == "(showing 3 of 3 matched events)"
    assert lines[-1].endswith(" (completed)")


def test_in_json_each_event_is_a_line_and_filters_hold(here: Stage) -> None:
    here.plays(a=[says("all done")])
    written = here.runs("a", "q").events
    assert here.logs("--follow", "--json").events == [
        event
        for event in written
        if event["type"] in {"startRun", "startGeneration", "completeRun"}
    ]
    assert here.logs("--follow", "--json", "--type", "completeRun").types == ["completeRun"]
    assert here.logs("--follow", "--json", "--take", "1").types == ["startRun"]


def test_what_is_only_known_at_the_end_cannot_be_followed(here: Stage) -> None:
    out = here.logs("--follow", "--summary")
    assert (out.code, out.stdout) == (2, "")
    assert "--follow and --summary cannot be used together" in out.stderr


@pytest.mark.slow
def test_a_job_of_another_process_is_followed_and_ctrl_c_is_no_failure(here: Stage) -> None:
    here.plays(a=[SLOW])
    perstack = [sys.executable, "-m", "perstack"]
    log = [*perstack, "log", "--follow", "--json", "--workspace", str(here.folder)]
    with started(*perstack, "run", "a", "q", *here.files) as running:
        read_until(running, "startGeneration")
        with started(*log) as impatient, started(*log) as patient:
            end_both(running, impatient, patient)


def end_both(
    running: subprocess.Popen[str], impatient: subprocess.Popen[str], patient: subprocess.Popen[str]
) -> None:
    for process in (impatient, patient):
        read_until(process, "startGeneration")
    impatient.send_signal(signal.SIGINT)
    _, said = impatient.communicate(timeout=30)
    assert (impatient.returncode, said.strip()) == (0, "")
    assert patient.poll() is None
    running.send_signal(signal.SIGTERM)
    rest, said = patient.communicate(timeout=30)
    assert (patient.returncode, said) == (0, "")
    assert '"type":"stopRunByCancellation"' in rest
    running.communicate(timeout=30)


@contextmanager
def started(*command: str) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], kind: str) -> None:
    """Read lines of stdout up to an event of this type."""
    assert process.stdout is not None
    while f'"type":"{kind}"' not in process.stdout.readline():
        assert process.poll() is None
