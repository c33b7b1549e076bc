"""The official conformance suite, as `scripts/prove conformance` runs it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.external
@pytest.mark.timeout(600)
def test_the_suite_finds_no_failure_that_is_not_expected() -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "prove", "conformance"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-6000:]
