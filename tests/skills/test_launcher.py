"""How child processes start: whole or not at all."""

import os
import subprocess
from pathlib import Path

import anyio
import pytest

from perstack.skills.subprocesses import Launcher, ProcessGuard
from tests.skills.harness import is_alive

pytestmark = pytest.mark.anyio


class CancellingGuard(ProcessGuard):
    """Cancels the job at the moment in which its process is started."""

    def __init__(self, job: anyio.CancelScope) -> None:
        super().__init__()
        self._job = job
        self.guarded: list[int] = []

    async def prepare(self) -> None:
        self._job.cancel()

    async def guard(self, group: int) -> None:
        self.guarded.append(group)

    async def release(self, group: int) -> None:
        self.guarded.remove(group)


async def test_a_job_that_is_cancelled_while_a_process_starts_can_still_end_its_group(
    tmp_path: Path,
) -> None:
    child = tmp_path / "child"
    with anyio.CancelScope() as job:
        guard = CancellingGuard(job)
        launcher = Launcher(guard)
        process = await launcher.start(
            ["sh", "-c", f"sleep 600 & echo $! > {child}.new; mv {child}.new {child}; wait"],
            cwd=tmp_path,
            environment={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert guard.guarded == [process.pid]
        with anyio.fail_after(30, shield=True):
            while not child.exists():
                await anyio.lowlevel.checkpoint()
        await launcher.stop(process, 0.1, 0.1)
        assert guard.guarded == []
        assert not is_alive(process.pid)
        assert not is_alive(int(child.read_text(encoding="ascii")))
    assert child.exists()
