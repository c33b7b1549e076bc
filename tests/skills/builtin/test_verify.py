"""Checks of the workspace and of an answer, made for real."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from perstack.core.verification import VerificationResult
from perstack.definition.verification import Verification
from perstack.skills.builtin.skill import BuiltInSkill

pytestmark = pytest.mark.anyio

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OPENAI_API_KEY": "sk-1234567890", "HOME": "/nowhere"}
SCHEMA = {"type": "object", "properties": {"total": {"type": "number"}}, "required": ["total"]}


async def checked(folder: Path, answer: str = "", **keys: Any) -> VerificationResult:
    verification = Verification.model_validate({"name": "it", **keys})
    with anyio.fail_after(30):
        return await BuiltInSkill(folder, ENVIRONMENT).verify(verification, answer)


def shell(line: str) -> list[str]:
    return ["sh", "-c", line]


async def test_a_command_that_does_what_is_expected_passes(tmp_path: Path) -> None:
    command = shell("echo out; echo err >&2; pwd; exit 3")
    found = await checked(tmp_path, command=command, expectExitCode=3, expectOutput="^err$")
    assert (found.passed, found.exit_code, found.problem) == (True, 3, "")
    assert found.output == f"out\n{tmp_path}\nerr\n"


async def test_another_exit_code_and_another_output_are_told(tmp_path: Path) -> None:
    failed = await checked(tmp_path, command=["false"])
    assert (failed.passed, failed.problem) == (False, "exit code 1 instead of 0")
    silent = await checked(tmp_path, command=["true"], expectOutput="[0-9]+ passed")
    assert silent.problem == "the output does not match [0-9]+ passed"
    killed = await checked(tmp_path, command=shell("kill -9 $$"))
    assert (killed.exit_code, killed.passed) == (-9, False)


async def test_a_command_gets_no_key_and_no_shell(tmp_path: Path) -> None:
    found = await checked(tmp_path, command=["env"])
    assert "sk-1234567890" not in found.output
    assert "PATH=" in found.output
    plain = await checked(tmp_path, command=["echo", "$HOME; false"])
    assert plain.output == "$HOME; false\n"


async def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    command = shell("echo begun; (sleep 60; touch late) & sleep 60")
    found = await checked(tmp_path, command=command, timeout=200)
    assert found.problem == "the command took longer than 200 ms"
    assert found.output == "begun\n"


async def test_a_command_that_is_not_there_is_a_failed_check(tmp_path: Path) -> None:
    found = await checked(tmp_path, command=["no-such-program"])
    assert not found.passed
    assert found.problem.startswith("Command no-such-program was not found")


async def test_the_answer_must_fit_the_schema(tmp_path: Path) -> None:
    assert (await checked(tmp_path, '{"total": 3}', jsonSchema=SCHEMA)).passed
    wrong = await checked(tmp_path, '{"total": "3"}', jsonSchema=SCHEMA)
    assert wrong.problem == "the answer: total must be a number"
    prose = await checked(tmp_path, "It is 3.", jsonSchema=SCHEMA)
    assert prose.problem == "the answer is no JSON"


async def test_a_file_must_fit_the_schema_and_lie_in_the_workspace(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"jsonSchema": SCHEMA, "file": "out/report.json"}
    missing = await checked(tmp_path, **keys)
    assert missing.problem == "File out/report.json does not exist"
    (tmp_path / "out").mkdir()
    report = tmp_path / "out" / "report.json"
    report.write_text("{}", encoding="utf-8")
    assert (await checked(tmp_path, **keys)).problem == (
        "the file out/report.json: total is missing"
    )
    report.write_text('{"total": 1}', encoding="utf-8")
    assert (await checked(tmp_path, **keys)).passed
    outside = await checked(tmp_path, jsonSchema=SCHEMA, file="../secret.json")
    assert "outside allowed directories" in outside.problem
