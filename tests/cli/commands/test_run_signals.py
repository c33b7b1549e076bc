"""How `perstack run` is stopped from outside: by signals, and by a reader that leaves."""

import io
import os
import signal
import subprocess
import sys

import anyio
import pytest

from perstack.cli.commands.run import stop_on_signals
from perstack.cli.main import main
from perstack.cli.terminal import Terminal
from perstack.jobs import JobHandle
from tests.cli.harness import Stage, says

SLOW = {"text": "one two three", "delaySeconds": 600}


class Gone(io.StringIO):
    """A pipe whose reader leaves after the first line, however many come at once."""

    def write(self, text: str, /) -> int:
        if self.getvalue() or text.count("\n") > 1:
            raise BrokenPipeError
        return super().write(text)


def test_a_reader_that_leaves_stops_the_job_resumable(here: Stage) -> None:
    here.plays(a=[SLOW])
    terminal = Terminal(stdin=here.stdin, stdout=Gone(), stderr=(said := io.StringIO()))
    assert main(("run", "a", "q", *here.files), terminal) == 130
    assert "perstack: cancelled; " in said.getvalue()
    here.plays(a=[says("after all")])
    out = here.runs("--continue")
    assert (out.code, out.events[-1]["text"]) == (0, "after all")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_command_leaves_a_job_that_another_one_finishes(
    here: Stage, number: signal.Signals
) -> None:
    here.plays(a=[SLOW])
    command = [sys.executable, "-m", "perstack", "run", "a", "q", "--job-id", "mine", *here.files]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while '"type":"startGeneration"' not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        lines, said = process.stdout.read().splitlines(), process.stderr.read()
    assert process.returncode == 130
    assert '"type":"stopRunByCancellation"' in lines[-1]
    assert f"stopped by {number.name}" in lines[-1]
    assert "resume: perstack run --continue-job mine" in said
    assert "Traceback" not in said
    here.plays(a=[says("after all")])
    out = here.runs("--continue-job", "mine")
    assert (out.code, out.events[-1]["text"]) == (0, "after all")


@pytest.mark.anyio
async def test_a_second_signal_does_not_wait_for_the_job() -> None:
    job = JobHandle(job_id="j", expert_key="a", query="q", checkpoints={})
    terminal = Terminal(stdin=io.StringIO(), stdout=io.StringIO(), stderr=(said := io.StringIO()))
    left = anyio.Event()
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        left.set()

    async with anyio.create_task_group() as tasks:
        await tasks.start(stop_on_signals, job, terminal, leave)
        os.kill(os.getpid(), signal.SIGTERM)
        while not job.scope.cancel_called:
            await anyio.lowlevel.checkpoint()
        assert codes == []
        os.kill(os.getpid(), signal.SIGTERM)
        await left.wait()
        tasks.cancel_scope.cancel()
    assert codes == [130]
    assert "once more to leave at once" in said.getvalue()
