"""A sample of the proof that budgets hold, and that what they stop goes on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROOF = Path(__file__).parents[2] / "scripts" / "proofs" / "budgets.py"
TREES = 200


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_random_trees_of_experts_keep_to_their_budgets_and_reach_their_ends() -> None:
    done = subprocess.run(
        [sys.executable, str(PROOF), "--runs", str(TREES), "--replay-every", "4"],
        capture_output=True,
        check=False,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"(\d+) trees of .* (\d+) stops .* (\d+) replays, 0 faults", done.stdout)
    assert found is not None
    assert [int(found[1]), int(found[2]) > TREES, int(found[3])] == [TREES, True, TREES // 4]
