"""The end of a process while one of its threads is busy."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading, time
from perstack.cli.process_end import force_exit_if_blocked
threading.Thread(target=time.sleep, args=({seconds},), daemon={daemon}).start()
print("said", flush=False)
force_exit_if_blocked(3)
print("returned")
sys.exit(4)
"""


@pytest.mark.parametrize(
    ("seconds", "daemon", "code", "output"),
    [
        (600, False, 3, "said\n"),
        (0, False, 4, "said\nreturned\n"),
        (600, True, 4, "said\nreturned\n"),
    ],
)
def test_a_busy_thread_does_not_hold_the_end_of_the_process_up(
    seconds: int, daemon: bool, code: int, output: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(seconds=seconds, daemon=daemon)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, output)
