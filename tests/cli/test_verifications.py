"""What an expert must prove, on the command line: evidence, a clear stop, and a way to go on."""

import json

import pytest

from tests.cli.harness import Stage, calls, done

TOML = """
[provider]
providerName = "scripted"

[provider.setting]
script = "script.json"

[experts."builder"]
instruction = "Build."
maxVerificationAttempts = 3

[[experts."builder".verifications]]
name = "state is good"
command = ["grep", "-q", "good", "state"]
"""


@pytest.fixture
def building(here: Stage) -> Stage:
    """An expert that must leave a file with the right content behind."""
    (here.folder / "perstack.toml").write_text(TOML, encoding="utf-8")
    return here


def test_two_failures_and_a_pass_complete_with_the_evidence(building: Stage) -> None:
    writes = [calls("writeTextFile", path="state", text=state) for state in ("bad", "good")]
    building.plays(builder=[done("1"), writes[0], done("2"), writes[1], done("built")])
    outcome = building.runs("builder", "build")
    assert outcome.code == 0
    made = [event["verification"] for event in outcome.events if "verification" in event]
    assert [(each["passed"], each["exitCode"]) for each in made] == [
        (False, 2),
        (False, 1),
        (True, 0),
    ]
    end = outcome.events[-1]
    assert (end["type"], end["text"]) == ("completeRun", "built")
    assert end["checkpoint"]["verifications"] == [made[-1]]
    assert "completed, verified: state is good ✓; 5 steps" in outcome.stderr
    log = building.logs()
    assert "state is good ✗ (exit code 1 instead of 0)" in log.stdout
    assert "state is good ✓" in log.stdout


def test_one_that_never_passes_stops_and_can_be_resumed(building: Stage) -> None:
    building.plays(builder=[done("1"), done("2"), done("3"), done("4")])
    outcome = building.runs("builder", "build")
    assert outcome.code == 1
    end = outcome.events[-1]
    assert end["type"] == "stopRunByError"
    assert end["error"]["name"] == "VerificationFailedError"
    assert "Verification failed 3 times" in outcome.stderr
    assert "resume: perstack run --continue-job" in outcome.stderr
    (building.folder / "state").write_text("good", encoding="utf-8")
    resumed = building.runs("--continue")
    assert resumed.code == 0
    assert resumed.events[-1]["text"] == "4"


def test_check_lists_what_an_expert_must_prove(building: Stage) -> None:
    files = ["--config", str(building.folder)]
    assert "   verified: state is good" in building.types("check", *files).stdout
    document = json.loads(building.types("check", "--json", *files).stdout)
    assert document["experts"][0]["verifications"] == [
        {"name": "state is good", "priority": "must"}
    ]
