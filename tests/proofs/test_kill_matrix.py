"""A sample of the proof that a job survives a kill at every point of its work."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROOF = Path(__file__).parents[2] / "scripts" / "proofs" / "kill_matrix.py"
SAMPLE = 12
MAX_MISSED = 2
"""On a busy machine the last points of a job may not occur, see the proof."""


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_jobs_killed_at_points_all_over_their_work_go_on_to_their_end() -> None:
    done = subprocess.run(
        [sys.executable, str(PROOF), "--sample", str(SAMPLE)],
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ended = re.findall(r"(\d+) of \1 jobs ended right after (\w+)", done.stdout)
    assert [name for _, name in ended] == ["SIGKILL", "SIGTERM"]
    assert all(int(killed) >= SAMPLE - MAX_MISSED for killed, _ in ended)
