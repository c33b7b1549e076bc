"""Streams that cannot take what is written: other encodings, a full disk, nothing at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import Stage, says

HALF_A_PAIR = "half \ud800, ü and ✓"
FULL = Path("/dev/full")


def shell(line: str, here: Stage, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A line of shell in the folder; `$P` is the command."""
    return subprocess.run(
        ["sh", "-c", line],
        cwd=here.folder,
        env={**os.environ, "P": f"{sys.executable} -m perstack", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_events_are_utf_8_json_whatever_the_model_says_and_the_locale_is(
    here: Stage, encoding: str
) -> None:
    here.plays(a=[says(HALF_A_PAIR)])
    done = shell("$P run a q --filter completeRun", here, PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert json.loads(done.stdout.decode("utf-8"))["text"] == HALF_A_PAIR


def test_a_log_shows_what_cannot_be_encoded_in_escapes(here: Stage) -> None:
    here.plays(a=[says(HALF_A_PAIR)])
    assert here.runs("a", "q").code == 0
    done = shell("$P log", here)
    assert done.returncode == 0
    assert "half \\ud800, ü and ✓" in done.stdout.decode("utf-8")


@pytest.mark.skipif(not FULL.exists(), reason="the machine has no device that is always full")
def test_a_full_disk_stops_the_job_resumable_and_is_a_failure(here: Stage) -> None:
    here.plays(a=[{"text": "late", "delaySeconds": 600}])
    done = shell(f"$P run a q >{FULL}", here)
    assert done.returncode == 1
    assert b"perstack: stdout cannot be written: " in done.stderr
    assert b"resume: perstack run --continue-job" in done.stderr


def test_closed_streams_do_no_harm(here: Stage) -> None:
    here.plays(a=[says("hello")])
    done = shell("$P run a q <&- >&- 2>&-", here)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert "✓ hello" in here.logs().stdout
