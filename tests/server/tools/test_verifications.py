"""An expert that must prove what it has done: what its caller gets, in both eras."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.fakes import FakeModel, call, calls, done
from tests.server.harness import Mode, facts, stage, texts

pytestmark = pytest.mark.anyio

TOML = """
[experts."builder"]
instruction = "Build."
maxVerificationAttempts = 3

[[experts."builder".verifications]]
name = "state is good"
command = ["sh", "check.sh"]
expectOutput = "^state: good$"

[[experts."builder".verifications]]
name = "notes are kept"
command = ["test", "-e", "notes.md"]
priority = "should"
"""
CHECK = 'echo "state: $(cat state)"\ngrep -q good state || exit 3\n'


def writes(state: str) -> Any:
    """A reply that writes the state of the work."""
    return calls(call("writeTextFile", f"w-{state}", path="state", text=state))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "check.sh").write_text(CHECK, encoding="utf-8")
    return tmp_path


async def test_two_failures_and_a_pass_complete_with_the_evidence(folder: Path, mode: Mode) -> None:
    replies = [done("1"), writes("bad"), done("2"), writes("good"), done("built")]
    model = FakeModel({"builder": replies})
    async with stage(folder, mode, model, toml=TOML, has_real_skills=True) as present:
        result = await present.call("builder", query="build")
        listed = (await present.client.list_tools()).tools[0]
    structured = facts(result)
    assert listed.output_schema is not None
    jsonschema.validate(structured, listed.output_schema)
    assert (structured["status"], structured["text"]) == ("completed", "built")
    assert structured["verifications"] == [
        {
            "name": "state is good",
            "priority": "must",
            "passed": True,
            "exit_code": 0,
            "output": "state: good",
        },
        {
            "name": "notes are kept",
            "priority": "should",
            "passed": False,
            "exit_code": 1,
            "problem": "exit code 1 instead of 0",
        },
    ]
    line = "verifications: state is good ✓ · notes are kept ✗ (exit code 1 instead of 0)"
    assert line in texts(result)[-1]
    seen = [str(request.messages[-1].model_dump()) for request in model.requests]
    assert "state is good: exit code 3 instead of 0" in seen[1]
    assert "state: bad" in seen[3]
    told = [message for _, message in present.progress]
    assert "builder · step 1 · state is good failed" in told
    assert "builder · step 5 · state is good passed" in told


async def test_one_that_never_passes_stops_with_a_clear_status_and_can_be_resumed(
    folder: Path, mode: Mode
) -> None:
    attempts = [done("1"), done("2"), done("3"), writes("good"), done("built")]
    model = FakeModel({"builder": attempts})
    async with stage(folder, mode, model, toml=TOML, has_real_skills=True) as present:
        stopped = await present.call("builder", query="build")
        resumed = await present.call("builder", query="", job_id=facts(stopped)["job_id"])
    structured = facts(stopped)
    assert stopped.is_error
    assert structured["status"] == "error"
    assert structured["text"] == (
        "Verification failed 3 times. "
        "At the last attempt: state is good (exit code 3 instead of 0)."
    )
    assert "call builder with this job_id and an empty query" in structured["next"]
    assert [each["passed"] for each in structured["verifications"]] == [False, False]
    assert facts(resumed)["status"] == "completed"
    assert facts(resumed)["verifications"][0]["passed"] is True
