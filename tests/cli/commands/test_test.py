"""`perstack test`: the tests that experts declare, their verdicts, and what is left of them."""

import json
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.cli.harness import Outcome, Stage, calls, done

HEAD = """
[experts."builder"]
instruction = "Build."

[[experts."builder".verifications]]
name = "file is there"
command = ["test", "-s", "hello.txt"]

[[experts."builder".verifications]]
name = "file is kind"
command = ["grep", "-q", "please", "hello.txt"]
priority = "should"
"""
TEST = '\n[[experts."builder".tests]]\nname = "greets"\nquery = "Greet."\nscript = "script.json"\n'


def written(here: Stage, *tests: str) -> None:
    text = HEAD + "".join(TEST + test + "\n" for test in tests)
    (here.folder / "perstack.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def greeting(here: Stage) -> Stage:
    """An expert that writes a file, by a script, and its test."""
    written(here, "")
    here.plays(builder=[calls("writeTextFile", path="hello.txt", text="hello"), done("done")])
    return here


def outcome_of(here: Stage, *words: str) -> Outcome:
    return here.types("test", *words, *here.files)


def verdicts(here: Stage, *words: str) -> list[dict[str, Any]]:
    return json.loads(outcome_of(here, "--json", *words).stdout)["tests"]


def test_a_test_that_comes_out_as_expected_passes_and_leaves_nothing(greeting: Stage) -> None:
    before = sorted(greeting.folder.iterdir())
    outcome = outcome_of(greeting)
    assert outcome.code == 0
    first, *others = outcome.stdout.splitlines()
    assert first.startswith("✓ builder: greets (2 steps, ")
    assert others == [
        "    ✓ file is there",
        "    ✗ file is kind (should)",
        "1 of 1 test passed",
    ]
    assert sorted(greeting.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ('outputMatches = "^Done$"', "the answer does not match ^Done$: done"),
        ("maxSteps = 1", "it ended as stoppedByMaxSteps, not as completed"),
        ("maxTokens = 3", "tokens, more than 3"),
        ('verifications = "all"', "the verification file is kind failed: exit code 1 instead of 0"),
        ('status = "stoppedByError"', "it ended as completed, not as stoppedByError: done"),
    ],
)
def test_what_is_not_as_expected_is_told(greeting: Stage, expect: str, problem: str) -> None:
    written(greeting, f"expect = {{ {expect} }}")
    outcome = outcome_of(greeting)
    assert outcome.code == 1
    assert problem in outcome.stdout
    assert outcome.stdout.endswith("0 of 1 test passed\n")


def test_a_job_that_takes_too_long_is_stopped(greeting: Stage) -> None:
    written(greeting, "expect = { maxSeconds = 0.2 }")
    greeting.plays(builder=[{"text": "late", "delaySeconds": 30}])
    (verdict,) = verdicts(greeting)
    assert verdict["status"] == "stoppedByBudget"
    assert not verdict["passed"]


def test_a_stop_that_is_expected_passes(greeting: Stage) -> None:
    written(greeting, 'expect = { status = "stoppedByError", outputMatches = "file is there" }')
    greeting.plays(builder=[done("1"), done("2"), done("3")])
    assert outcome_of(greeting).code == 0


def test_every_test_is_made_and_one_that_cannot_begin_fails(greeting: Stage) -> None:
    written(greeting, "", "")
    path = greeting.folder / "perstack.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("script.json", "nowhere.json", 1), encoding="utf-8")
    broken, sound = verdicts(greeting)
    assert not broken["passed"]
    assert "nowhere.json: the script cannot be read" in broken["problems"][0]
    assert sound["passed"]


def test_one_script_can_be_played_in_every_test(greeting: Stage) -> None:
    other = greeting.folder / "other.json"
    other.write_text('{"experts": {"builder": [{"text": "other"}]}}', encoding="utf-8")
    (greeting.folder / "hello.txt").write_text("hello", encoding="utf-8")
    (verdict,) = verdicts(greeting, "--script", str(other))
    assert verdict["text"] == "other"


def test_what_was_said_in_a_job_can_be_played(greeting: Stage) -> None:
    greeting.plays(builder=[calls("writeTextFile", path="hello.txt", text="hi"), done("once")])
    job = verdicts(greeting, "--in-place")[0]["jobId"]
    (greeting.folder / "hello.txt").unlink()
    greeting.plays()
    (verdict,) = verdicts(greeting, "--replay", job)
    assert (verdict["passed"], verdict["text"]) == (True, "once")


def test_live_asks_the_model_of_the_file(greeting: Stage) -> None:
    (verdict,) = verdicts(greeting, "--live", "--provider", "openai", "--model", "m")
    assert not verdict["passed"]
    assert "OPENAI_API_KEY" in str(verdict)


def test_a_test_can_begin_with_a_folder_of_its_own(greeting: Stage) -> None:
    fixture = greeting.folder / "fixture"
    fixture.mkdir()
    (fixture / "hello.txt").write_text("please", encoding="utf-8")
    written(greeting, 'workspace = "fixture"\nexpect = { verifications = "all" }')
    greeting.plays(builder=[done("done")])
    assert outcome_of(greeting).code == 0


def test_copies_can_be_kept_with_their_jobs(
    greeting: Stage, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("copies")))
    (verdict,) = verdicts(greeting, "--keep")
    kept = Path(verdict["workspace"])
    assert (kept / "hello.txt").read_text(encoding="utf-8") == "hello"
    log = greeting.types("log", "--workspace", str(kept))
    assert verdict["jobId"] in log.stdout


def test_a_test_can_work_in_place(greeting: Stage) -> None:
    assert outcome_of(greeting, "--in-place").code == 0
    assert (greeting.folder / "hello.txt").exists()


def test_a_report_for_ci_is_written(greeting: Stage) -> None:
    written(greeting, "", 'expect = { outputMatches = "no" }')
    report = greeting.folder / "report.xml"
    assert outcome_of(greeting, "--junit", str(report)).code == 1
    suite = ET.fromstring(report.read_bytes())  # noqa: S314 - it is our own
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert [case.get("classname") for case in suite] == ["builder", "builder"]
    assert "does not match no" in (suite[1][0].get("message") or "")


def test_where_there_are_no_tests_it_says_how_to_write_one(here: Stage) -> None:
    outcome = outcome_of(here)
    assert outcome.code == 2
    assert "there are no tests" in outcome.stderr
    assert '[[experts."NAME".tests]]' in outcome.stderr


def test_an_unknown_expert_is_named(greeting: Stage) -> None:
    outcome = outcome_of(greeting, "bilder")
    assert outcome.code == 2
    assert "The experts are: builder." in outcome.stderr
