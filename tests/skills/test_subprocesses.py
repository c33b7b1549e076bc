"""No process outlives its job, whatever it does and however perstack ends."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

from perstack.errors import SkillError
from tests.skills.harness import (
    Recorder,
    call,
    expert,
    is_alive,
    offspring,
    opened,
    plain,
    until,
)

pytestmark = pytest.mark.anyio


async def pid_of_server(workspace: Path, *options: str) -> int:
    """The pid of a server that was there for one job."""
    async with opened(workspace) as skills:
        tester = expert(plain=plain(*options))
        await skills.tools(tester, Recorder())
        return int((await skills.call(tester, call("pid"), "key")).text)


async def test_a_server_ends_with_its_job(tmp_path: Path) -> None:
    assert not is_alive(await pid_of_server(tmp_path))


async def test_a_server_that_ignores_the_end_of_stdin_and_sigterm_is_killed(tmp_path: Path) -> None:
    assert not is_alive(await pid_of_server(tmp_path, "deaf"))


async def test_what_a_server_started_is_killed_with_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as skills:
        await skills.tools(expert(plain=plain("offspring")), Recorder())
        child = await offspring(tmp_path)

    await until(lambda: not is_alive(child))


async def test_what_a_server_started_is_killed_when_the_server_dies(tmp_path: Path) -> None:
    tester = expert(plain=plain("offspring"))

    async with opened(tmp_path) as skills:
        await skills.tools(tester, Recorder())
        child = await offspring(tmp_path)
        await skills.call(tester, call("die"), "key")
        await until(lambda: not is_alive(child))


async def test_a_cancelled_job_leaves_nothing_behind(tmp_path: Path) -> None:
    tester = expert(plain=plain("offspring"))
    pid = child = 0

    with anyio.CancelScope() as job:
        async with opened(tmp_path) as skills:
            await skills.tools(tester, Recorder())
            pid = int((await skills.call(tester, call("pid"), "key")).text)
            child = await offspring(tmp_path)
            job.cancel()
            await anyio.sleep_forever()

    assert pid
    assert not is_alive(pid)
    await until(lambda: not is_alive(child))


async def test_a_job_that_is_cancelled_while_a_server_starts_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    told, child = Recorder(), 0
    tester = expert(plain=plain("mute", "offspring"))

    with anyio.CancelScope() as job:
        async with opened(tmp_path) as skills, anyio.create_task_group() as tasks:
            tasks.start_soon(skills.tools, tester, told)
            child = await offspring(tmp_path)
            job.cancel()

    assert told.of("failed") == [("failed", "plain", "SkillError")]
    assert child
    await until(lambda: not is_alive(child))


async def test_no_file_stays_open(tmp_path: Path) -> None:
    await pid_of_server(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        await pid_of_server(tmp_path)

    assert len(list(Path("/proc/self/fd").iterdir())) <= before


async def test_a_server_that_does_not_get_ready_is_given_up_and_ended(tmp_path: Path) -> None:
    async with opened(tmp_path, start_seconds=0.5) as skills:
        with pytest.raises(SkillError, match=r"not ready within 0\.5 seconds"):
            await skills.tools(expert(plain=plain("mute", "offspring")), Recorder())
        child = await offspring(tmp_path)
        await until(lambda: not is_alive(child))


PROGRAM = """
    import anyio, json, os, sys
    from pathlib import Path
    from tests.skills.harness import Recorder, call, expert, opened, plain

    async def main():
        async with opened(Path.cwd()) as skills:
            tester = expert(plain=plain("deaf", "offspring"))
            await skills.tools(tester, Recorder())
            pid = int((await skills.call(tester, call("pid"), "key")).text)
            sys.stdout.write(json.dumps(pid) + "\\n")
            sys.stdout.flush()
            await anyio.sleep_forever()

    anyio.run(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the test looks processes up in /proc")
async def test_nothing_is_left_when_perstack_is_killed(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    program = subprocess.Popen(  # noqa: ASYNC220 -- it starts in the background
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": root},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with program:
        try:
            assert program.stdout is not None
            pid = json.loads(await anyio.to_thread.run_sync(program.stdout.readline))
            child = await offspring(tmp_path)
        finally:
            program.kill()

    await until(lambda: not is_alive(pid) and not is_alive(child))
